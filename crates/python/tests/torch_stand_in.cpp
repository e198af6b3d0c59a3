// Stands in for the parts of PyTorch's C++ libraries that throwing its exception needs, and for the
// C++ that calls a pluggable allocator. Compiled three times by test_torch.py: as libc10.so (BASE),
// as libc10_cuda.so (CUDA) and as the caller (CALLER).

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <string>

namespace c10 {

struct SourceLocation {
    const char* function;
    const char* file;
    uint32_t line;
};

class Error : public std::exception {
    std::string message;
    std::string shown;

  public:
    Error(SourceLocation location, std::string message);
    const char* what() const noexcept override;
};

class OutOfMemoryError : public Error {
    using Error::Error;
};

#ifdef BASE
Error::Error(SourceLocation location, std::string message)
    : message(std::move(message)), shown(this->message + " (" + location.function + ")") {}
const char* Error::what() const noexcept { return shown.c_str(); }
#endif

}  // namespace c10

#ifdef CUDA
// As PyTorch's own allocator does; thereby the library has the class's table and type.
extern "C" void throw_it() { throw c10::OutOfMemoryError({"f", "f", 0}, "never"); }
#endif

#ifdef CALLER
// 1: the exception, whose text is copied; 2: another one; 0: none, with the address.
extern "C" int call(void* (*allocate)(ssize_t, int, void*), ssize_t bytes, char* text, size_t room) {
    std::function<void*(ssize_t, int, void*)> function = allocate;
    try {
        return function(bytes, 0, nullptr) != nullptr ? 0 : 3;
    } catch (const c10::OutOfMemoryError& error) {
        std::strncpy(text, error.what(), room - 1);
        return 1;
    } catch (...) {
        return 2;
    }
}
#endif
