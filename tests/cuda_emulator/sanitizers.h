/* The functions of AddressSanitizer and ThreadSanitizer that the emulator calls when it is linked
   with one of them, and does not when it is not. The emulator itself is compiled without. */
#ifndef CU_EMU_SANITIZERS_H
#define CU_EMU_SANITIZERS_H

#include <cstddef>

#define CU_EMU_WEAK __attribute__((weak))
extern "C" {
CU_EMU_WEAK void __sanitizer_start_switch_fiber(void **fake, const void *stack, size_t bytes);
CU_EMU_WEAK void __sanitizer_finish_switch_fiber(void *fake, const void **stack, size_t *bytes);
CU_EMU_WEAK void __asan_poison_memory_region(const volatile void *p, size_t bytes);
CU_EMU_WEAK void __asan_unpoison_memory_region(const volatile void *p, size_t bytes);
CU_EMU_WEAK void *__tsan_get_current_fiber();
CU_EMU_WEAK void *__tsan_create_fiber(unsigned flags);
CU_EMU_WEAK void __tsan_destroy_fiber(void *fiber);
CU_EMU_WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);
CU_EMU_WEAK void AnnotateBenignRaceSized(const char *file, int line, const volatile void *memory,
                                         size_t bytes, const char *what);
CU_EMU_WEAK void __tsan_acquire(void *address);
CU_EMU_WEAK void __tsan_release(void *address);
}
#undef CU_EMU_WEAK

namespace cu_emu {

inline bool has_asan() { return __asan_poison_memory_region != nullptr; }
inline bool has_tsan() { return __tsan_create_fiber != nullptr; }
inline void asan_poison(void *p, size_t bytes) {
    if (has_asan() && bytes) __asan_poison_memory_region(p, bytes);
}
inline void asan_unpoison(void *p, size_t bytes) {
    if (has_asan() && bytes) __asan_unpoison_memory_region(p, bytes);
}
inline void tsan_acquire(void *address) {
    if (has_tsan()) __tsan_acquire(address);
}
inline void tsan_release(void *address) {
    if (has_tsan()) __tsan_release(address);
}

} // namespace cu_emu

#endif
