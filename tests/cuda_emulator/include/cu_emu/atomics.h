/* Atomic operations of CUDA: relaxed, as there. They are real atomics, so that ThreadSanitizer
   tells a plain access to the same place as a race. */
#ifndef CU_EMU_ATOMICS_H
#define CU_EMU_ATOMICS_H

#include "cu_emu/device.h"

namespace cu_emu {

template <class T> struct AtomicWord {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
    using type = std::conditional_t<sizeof(T) == 8, uint64_t,
                                    std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
};

/* Replaces *p by change(*p) and returns what was there. */
template <class T, class Change> inline T atomic_update(T *p, Change change) {
    using Word = typename AtomicWord<T>::type;
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0)
        trap("an atomic operation at a misaligned address");
    Word *word = reinterpret_cast<Word *>(p);
    Word before = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        const T old = from_bits<T>(before);
        const Word after = static_cast<Word>(to_bits<T>(change(old)));
        if (__atomic_compare_exchange_n(word, &before, after, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return old;
    }
}

/* The sum as unsigned arithmetic for integers: CUDA's atomics wrap. */
template <class T> constexpr T wrapping_add(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        using U = std::make_unsigned_t<T>;
        return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else {
        return a + b;
    }
}

} // namespace cu_emu

#define CU_EMU_ATOMIC(name, T, expression)                                                         \
    inline T name(T *p, T value) {                                                                 \
        return cu_emu::atomic_update(p, [value](T old) -> T { return expression; });               \
    }
#define CU_EMU_ATOMICS_OF_INTEGERS(T)                                                              \
    CU_EMU_ATOMIC(atomicExch, T, (static_cast<void>(old), value))                                  \
    CU_EMU_ATOMIC(atomicMin, T, value < old ? value : old)                                         \
    CU_EMU_ATOMIC(atomicMax, T, value > old ? value : old)                                         \
    CU_EMU_ATOMIC(atomicAnd, T, static_cast<T>(old & value))                                       \
    CU_EMU_ATOMIC(atomicOr, T, static_cast<T>(old | value))                                        \
    CU_EMU_ATOMIC(atomicXor, T, static_cast<T>(old ^ value))                                       \
    inline T atomicCAS(T *p, T expected, T value) {                                                \
        return cu_emu::atomic_update(                                                              \
            p, [expected, value](T old) -> T { return old == expected ? value : old; });           \
    }
CU_EMU_ATOMICS_OF_INTEGERS(int)
CU_EMU_ATOMICS_OF_INTEGERS(unsigned)
CU_EMU_ATOMICS_OF_INTEGERS(unsigned long long)
CU_EMU_ATOMIC(atomicAdd, int, cu_emu::wrapping_add(old, value))
CU_EMU_ATOMIC(atomicAdd, unsigned, cu_emu::wrapping_add(old, value))
CU_EMU_ATOMIC(atomicAdd, unsigned long long, cu_emu::wrapping_add(old, value))
CU_EMU_ATOMIC(atomicAdd, float, old + value)
CU_EMU_ATOMIC(atomicAdd, double, old + value)
CU_EMU_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
CU_EMU_ATOMIC(atomicSub, int,
              static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
CU_EMU_ATOMIC(atomicSub, unsigned, old - value)
CU_EMU_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
CU_EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef CU_EMU_ATOMICS_OF_INTEGERS
#undef CU_EMU_ATOMIC

#endif
