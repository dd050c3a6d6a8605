// soban_bpe: text to token ids by byte-pair merging over the mapped tables of a packed tokenizer.
#include <algorithm>
#include <new>
#include <vector>

#include "soban.h"

namespace soban {
namespace {

constexpr uint32_t GONE = 0xFFFFFFFF; // the id of a symbol that was joined to the one before it
constexpr int32_t NONE = -1;

struct Damaged {}; // a table names an id beyond the vocabulary

struct Symbol { // one of the text, in a list that shrinks as symbols join
    uint32_t id;
    int32_t before, after;
};

struct Candidate { // two neighbours that may join: the least rank first, then the leftmost
    uint32_t rank;
    int32_t place;
    uint32_t joined;
    bool operator<(const Candidate &other) const {
        return rank != other.rank ? rank > other.rank : place > other.place;
    }
};

struct Merge { // a row of the table; `left` is one more than the id, 0 where the row is empty
    uint32_t left, right, rank, joined;
};

// Both searches look at `reach` rows from the key's own on, and the table has that many more than the keys have places:
// so they stay inside it whatever it holds. The hashes are those of text/tokenizers/packing.py.
uint32_t find_character(const soban_pieces &pieces, uint32_t code) {
    const uint32_t home = (code * 0x9E3779B1u) >> (32 - pieces.character_bits);
    const uint32_t *row = pieces.characters + 2 * (int64_t)home;
    for (int32_t i = 0; i < pieces.character_reach && row[0]; i++, row += 2)
        if (row[0] == code + 1) return row[1];
    return GONE;
}

const Merge *find_merge(const soban_pieces &pieces, uint32_t left, uint32_t right) {
    const uint64_t mixed = left * 0x9E3779B97F4A7C15u + right * 0xC2B2AE3D27D4EB4Fu;
    const Merge *row = (const Merge *)pieces.merges + (mixed >> (64 - pieces.merge_bits));
    for (int32_t i = 0; i < pieces.merge_reach && row->left; i++, row++)
        if (row->left == left + 1 && row->right == right) return row;
    return nullptr;
}

uint32_t checked(const soban_pieces &pieces, uint32_t id) {
    if (id >= (uint32_t)pieces.count) throw Damaged{};
    return id;
}

// The code point at `text`, and how many bytes it takes; text that is cut off or no UTF-8 is taken byte by byte.
struct Character {
    uint32_t code;
    int32_t bytes;
};

Character character(const uint8_t *text, const uint8_t *end) {
    const uint8_t first = *text;
    const int32_t bytes = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (bytes == 0 || end - text < bytes) return {GONE - 1, 1};
    uint32_t code = bytes == 1 ? first : first & (0x7F >> bytes);
    for (int32_t i = 1; i < bytes; i++) code = code << 6 | (text[i] & 0x3F);
    return {code, bytes};
}

class Word { // the symbols of one stretch of text, merged by themselves
  public:
    explicit Word(const soban_pieces &pieces) : pieces(pieces) {}

    uint32_t *encode(const uint8_t *text, const uint8_t *end, uint32_t *ids) {
        symbols.clear();
        heap.clear();
        while (text < end) {
            const Character now = character(text, end);
            const uint32_t id = find_character(pieces, now.code);
            if (id != GONE)
                append(id);
            else
                for (int32_t i = 0; i < now.bytes; i++) append(pieces.bytes[text[i]]);
            text += now.bytes;
        }
        for (int32_t i = 0; i + 1 < (int32_t)symbols.size(); i++) consider(i);
        std::make_heap(heap.begin(), heap.end());
        merge();
        for (int32_t i = symbols.empty() ? NONE : 0; i != NONE; i = symbols[i].after) *ids++ = symbols[i].id;
        return ids;
    }

  private:
    void append(uint32_t id) {
        const int32_t place = (int32_t)symbols.size();
        if (place) symbols[place - 1].after = place;
        symbols.push_back({checked(pieces, id), place - 1, NONE});
    }

    bool consider(int32_t left) {
        const Merge *found = find_merge(pieces, symbols[left].id, symbols[symbols[left].after].id);
        if (found) heap.push_back({found->rank, left, checked(pieces, found->joined)});
        return found;
    }

    void merge() {
        while (!heap.empty()) {
            const Candidate best = heap.front();
            std::pop_heap(heap.begin(), heap.end());
            heap.pop_back();
            Symbol &left = symbols[best.place];
            if (left.id == GONE || left.after == NONE) continue;
            Symbol &right = symbols[left.after];
            // What stood here may have been joined since. The judge, tokenizers, asks only for the same outcome.
            const Merge *found = find_merge(pieces, left.id, right.id);
            if (!found || found->joined != best.joined) continue;
            left.id = best.joined;
            right.id = GONE;
            left.after = right.after;
            if (left.after != NONE) {
                symbols[left.after].before = best.place;
                if (consider(best.place)) std::push_heap(heap.begin(), heap.end());
            }
            if (left.before != NONE && consider(left.before)) std::push_heap(heap.begin(), heap.end());
        }
    }

    const soban_pieces &pieces;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
};

bool begins_word(const uint8_t *text, const uint8_t *end) { // with U+2581
    return end - text >= 3 && text[0] == 0xE2 && text[1] == 0x96 && text[2] == 0x81;
}

} // namespace
} // namespace soban

extern "C" int64_t soban_bpe(const soban_pieces *pieces, const uint8_t *text, int64_t length, int32_t cut,
                             uint32_t *ids) {
    if (length > INT32_MAX) return SOBAN_BPE_NO_MEMORY;
    try {
        soban::Word word(*pieces);
        const uint8_t *end = text + length;
        uint32_t *next = ids;
        while (text < end) {
            const uint8_t *stop = cut ? text + 1 : end;
            while (stop < end && !soban::begins_word(stop, end)) stop++;
            next = word.encode(text, stop, next);
            text = stop;
        }
        return next - ids;
    } catch (const soban::Damaged &) {
        return SOBAN_BPE_DAMAGED;
    } catch (const std::bad_alloc &) {
        return SOBAN_BPE_NO_MEMORY;
    }
}
