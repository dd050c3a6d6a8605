// A panel of a GGUF file's rows on its way into its own form.
#ifndef SOBAN_REPACK_H
#define SOBAN_REPACK_H

#include "kernels/kernels.h"

namespace soban {

// The bytes of a row in the file.
int64_t file_row_bytes(int32_t format, int64_t columns);

// Up to 16 rows; the first that has a scale that is no number, or -1.
int32_t repack_panel(const uint8_t *source, int32_t format, int32_t rows, int64_t columns, uint8_t *to);

} // namespace soban
#endif
