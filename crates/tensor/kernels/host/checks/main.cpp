// Runs all checks, or those whose names hold a word: `checks [WORD]`. Those called race_… hold a
// race, on purpose: under ThreadSanitizer they run only when they are asked for. Those called
// outside_… read beside an array, on purpose, and run only when they are asked for.

#include "check.h"

int main(int count, char **words) {
    for (const check::Check &one : check::all()) {
        if (count < 2 && std::strncmp(one.name, "outside_", 8) == 0) continue;
#if defined(__SANITIZE_THREAD__)
        if (count < 2 && std::strncmp(one.name, "race_", 5) == 0) continue;
#endif
        if (count > 1 && !std::strstr(one.name, words[1])) continue;
        check::now = one.name;
        one.function();
    }
    if (check::failures > 0) {
        std::printf("%d failed\n", check::failures);
        return 1;
    }
    std::printf("%zu checks held\n", check::all().size());
}
