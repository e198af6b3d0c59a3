//! Words in capitals: read as words, or letter by letter.

/// Acronyms read as a word, and short words that people write in capitals for emphasis. Other words
/// in capitals of up to five letters are read letter by letter.
pub(super) const WORDS: &[&str] = &[
    // Read as words.
    "aids", "ansi", "ascii", "asap", "basic", "bios", "cern", "cobol", "covid", "epcot", "fema",
    "fifa", "fomo", "gatt", "gif", "hipaa", "ieee", "imax", "interpol", "jpeg", "laser", "lidar",
    "mensa", "nafta", "nasa", "nasdaq", "nato", "navy", "norad", "opec", "osha", "pin", "radar",
    "ram", "rom", "sars", "sat", "scuba", "sim", "sonar", "swat", "swift", "taser", "unesco",
    "unicef", "uefa", "wasp", "wifi", "yolo", "zip", "abba", "ikea", "lego", "nike", "visa",
    "bafta", "json", "yaml", "cuda", "bash", "ruby", "rust", "java", "linux", "unix", "sudo",
    "wav", "flac", "cad", "cobra", "darpa", "esa", "mac", "moma", "soho", "ted", "vat",
    // Capitals for emphasis.
    "a", "about", "after", "again", "all", "alone", "also", "always", "am", "an", "and", "any",
    "are", "as", "ask", "at", "away", "back", "bad", "be", "beat", "been", "best", "better", "big",
    "black", "blue", "book", "both", "boy", "bring", "bus", "but", "buy", "by", "call", "came",
    "can", "cant", "car", "cat", "clear", "click", "close", "cold", "come", "cool", "could", "cut",
    "daily", "danger", "day", "dear", "did", "do", "dog", "done", "dont", "door", "down", "draft",
    "drop", "dry", "each", "early", "east", "eat", "easy", "end", "enter", "error", "even", "ever",
    "every", "exit", "fact", "fail", "false", "far", "fast", "few", "file", "final", "find",
    "fire", "first", "fix", "for", "free", "from", "full", "fun", "gave", "get", "give", "go",
    "god", "going", "gold", "gone", "good", "got", "great", "green", "had", "hand", "happy",
    "hard", "has", "hate", "have", "he", "hear", "heart", "help", "her", "here", "hey", "hi",
    "high", "him", "his", "hit", "hold", "home", "hope", "hot", "house", "how", "huge", "i", "if",
    "in", "into", "is", "its", "job", "join", "just", "keep", "key", "kill", "king", "know",
    "large", "last", "late", "law", "lead", "learn", "leave", "left", "less", "let", "life",
    "light", "like", "line", "list", "live", "long", "look", "lost", "lot", "love", "low", "made",
    "main", "make", "man", "many", "map", "may", "me", "mean", "men", "menu", "mind", "mine",
    "miss", "moon", "more", "most", "move", "much", "music", "must", "my", "name", "near", "need",
    "never", "new", "news", "next", "nice", "night", "no", "none", "north", "not", "note", "now",
    "of", "off", "old", "on", "once", "one", "only", "open", "or", "order", "other", "our", "out",
    "over", "own", "page", "part", "past", "pay", "peace", "place", "plan", "play", "point",
    "power", "press", "price", "pull", "push", "put", "quick", "quiet", "quit", "read", "ready",
    "real", "red", "rest", "right", "road", "room", "rule", "run", "safe", "said", "sale", "same",
    "save", "saw", "say", "see", "sell", "send", "sent", "set", "she", "shop", "short", "show",
    "shut", "sign", "sit", "six", "slow", "small", "so", "some", "soon", "sorry", "south", "speak",
    "star", "start", "stay", "step", "still", "stop", "such", "sun", "sure", "take", "talk",
    "team", "tell", "ten", "test", "than", "thank", "that", "the", "their", "them", "then",
    "there", "these", "they", "thing", "think", "this", "those", "time", "tiny", "to", "today",
    "told", "too", "top", "total", "town", "tree", "true", "truth", "try", "turn", "two", "under",
    "until", "up", "upon", "use", "used", "very", "wait", "walk", "want", "war", "warm", "was",
    "watch", "water", "way", "we", "week", "well", "went", "were", "west", "what", "when", "where",
    "which", "while", "white", "who", "whole", "why", "will", "win", "wish", "with", "woman",
    "women", "word", "work", "world", "would", "wow", "write", "wrong", "year", "yes", "yet",
    "you", "young", "your", "zero", // Headings and labels.
    "la", "it", "us", "act", "scene", "part", "notes", "index", "table", "title", "intro", "sale",
    "taxi", "hello",
];

/// Read letter by letter, although they are also words or longer than five letters.
pub(super) const INITIALISMS: &[&str] = &[
    "ai", "ein", "irc", "irs", "am", "api", "ar", "atm", "bbc", "bmw", "cd", "ceo", "cia", "cnn",
    "cpu", "cv", "dc", "diy", "dna", "dvd", "er", "eu", "fbi", "faq", "gdp", "gps", "gpu", "hiv",
    "hq", "hr", "html", "http", "https", "ibm", "id", "ip", "iq", "it", "la", "led", "llm", "mba",
    "mp", "mri", "nba", "nfl", "ny", "os", "pc", "pdf", "pm", "po", "pr", "rna", "rsvp", "sms",
    "sos", "sql", "suv", "tv", "ufo", "ui", "uk", "un", "url", "us", "usa", "usb", "usd", "ux",
    "vip", "vr", "who", "www", "xml", "ymca", "lgbtq", "naacp",
];
