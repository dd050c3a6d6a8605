"""Languages by the names that people call them: in English, in Korean and in the language itself."""

# By the two-letter codes of ISO 639-1.
NAMES = {
    "ar": ("Arabic", "아랍어", "العربية"), "cs": ("Czech", "체코어", "čeština"), "da": ("Danish", "덴마크어", "dansk"),
    "de": ("German", "독일어", "Deutsch"), "en": ("English", "영어", "English"),
    "es": ("Spanish", "스페인어", "español"), "fi": ("Finnish", "핀란드어", "suomi"),
    "fr": ("French", "프랑스어", "français"), "he": ("Hebrew", "히브리어", "עברית"), "hi": ("Hindi", "힌디어", "हिन्दी"),
    "hu": ("Hungarian", "헝가리어", "magyar"), "id": ("Indonesian", "인도네시아어", "Bahasa Indonesia"),
    "it": ("Italian", "이탈리아어", "italiano"), "ja": ("Japanese", "일본어", "日本語"),
    "ko": ("Korean", "한국어", "한국말"), "nl": ("Dutch", "네덜란드어", "Nederlands"),
    "no": ("Norwegian", "노르웨이어", "norsk"), "pl": ("Polish", "폴란드어", "polski"),
    "pt": ("Portuguese", "포르투갈어", "português"), "ro": ("Romanian", "루마니아어", "română"),
    "ru": ("Russian", "러시아어", "русский"), "sv": ("Swedish", "스웨덴어", "svenska"),
    "th": ("Thai", "태국어", "ไทย"), "tr": ("Turkish", "터키어", "Türkçe", "튀르키예어"),
    "uk": ("Ukrainian", "우크라이나어", "українська"), "vi": ("Vietnamese", "베트남어", "Tiếng Việt"),
    "zh": ("Chinese", "중국어", "中文"),
}  # fmt: skip
CODES = {name.casefold(): code for code, names in NAMES.items() for name in names}


def code(word: str) -> str | None:
    """The code of the language that a word is the name of, in any of its spellings; None for any other word."""
    return CODES.get(word.strip().casefold())
