/* What a kernel sees of the execution model: indices, barriers, warp operations, fences, dynamic
   shared memory. The emulator's own part is behind the cu_emu_* functions (block.cc, warp.cc). */
#ifndef CU_EMU_DEVICE_H
#define CU_EMU_DEVICE_H

#include "cu_emu/types.h"
#include <type_traits>

/* Written by the emulator whenever it changes the thread; kernels read them. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cu_emu {

/* The warp operations; order matters to nobody, names are in warp.cc. */
enum class Warp {
    sync,
    shfl,
    shfl_up,
    shfl_down,
    shfl_xor,
    ballot,
    any,
    all,
    match_any,
    add,
    min_signed,
    min_unsigned,
    max_signed,
    max_unsigned,
    bit_and,
    bit_or,
    bit_xor,
};

enum class Count { none, count, all, any };

/* A call that waits: its name and place, for messages. */
struct Site {
    const char *what, *file;
    int line;
};

/* Waits until all threads of the block are at a barrier of this place. Returns the number of
   threads with a predicate that is not zero, as `count` asks. */
int barrier(Count count, int predicate, Site site);

/* Waits until all lanes of `mask` do the same operation at the same place. Returns its result for
   this lane. width and arg as in CUDA's shuffles. */
uint64_t warp(Warp op, unsigned mask, uint64_t value, int arg, int width, Site site);

/* Orders memory between threads that both call it. */
void fence();

/* A clock that moves on a lot whenever it is read. */
long long read_clock();

void *dynamic_shared();

/* The bit of the calling thread in its warp. */
unsigned lane_bit();

/* Ends the launch with an error that names the thread. */
[[noreturn]] void trap(const char *message);

template <class T> uint64_t to_bits(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move 1 to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T> T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace cu_emu

/* The caller's place, taken where a function is called. */
#define CU_EMU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CU_EMU_PLACE) {
    cu_emu::barrier(cu_emu::Count::none, 0, {"__syncthreads()", file, line});
}
inline int __syncthreads_count(int predicate, CU_EMU_PLACE) {
    return cu_emu::barrier(cu_emu::Count::count, predicate, {"__syncthreads_count()", file, line});
}
inline int __syncthreads_and(int predicate, CU_EMU_PLACE) {
    return cu_emu::barrier(cu_emu::Count::all, predicate, {"__syncthreads_and()", file, line});
}
inline int __syncthreads_or(int predicate, CU_EMU_PLACE) {
    return cu_emu::barrier(cu_emu::Count::any, predicate, {"__syncthreads_or()", file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, CU_EMU_PLACE) {
    cu_emu::warp(cu_emu::Warp::sync, mask, 0, 0, 32, {"__syncwarp()", file, line});
}

#define CU_EMU_SHUFFLE(name, op, argument)                                                         \
    template <class T>                                                                             \
    inline T name(unsigned mask, T value, argument arg, int width = 32, CU_EMU_PLACE) {            \
        return cu_emu::from_bits<T>(cu_emu::warp(cu_emu::Warp::op, mask, cu_emu::to_bits(value),   \
                                                 static_cast<int>(arg), width,                     \
                                                 {#name "()", file, line}));                       \
    }
CU_EMU_SHUFFLE(__shfl_sync, shfl, int)
CU_EMU_SHUFFLE(__shfl_up_sync, shfl_up, unsigned)
CU_EMU_SHUFFLE(__shfl_down_sync, shfl_down, unsigned)
CU_EMU_SHUFFLE(__shfl_xor_sync, shfl_xor, int)
#undef CU_EMU_SHUFFLE

#define CU_EMU_VOTE(name, op, T, R)                                                                \
    inline R name(unsigned mask, T value, CU_EMU_PLACE) {                                          \
        return static_cast<R>(cu_emu::warp(cu_emu::Warp::op, mask, cu_emu::to_bits(value), 0, 32,  \
                                           {#name "()", file, line}));                             \
    }
CU_EMU_VOTE(__ballot_sync, ballot, int, unsigned)
CU_EMU_VOTE(__any_sync, any, int, int)
CU_EMU_VOTE(__all_sync, all, int, int)
CU_EMU_VOTE(__match_any_sync, match_any, int, unsigned)
CU_EMU_VOTE(__match_any_sync, match_any, unsigned, unsigned)
CU_EMU_VOTE(__match_any_sync, match_any, float, unsigned)
CU_EMU_VOTE(__match_any_sync, match_any, long long, unsigned)
CU_EMU_VOTE(__match_any_sync, match_any, unsigned long long, unsigned)
CU_EMU_VOTE(__reduce_add_sync, add, int, int)
CU_EMU_VOTE(__reduce_add_sync, add, unsigned, unsigned)
CU_EMU_VOTE(__reduce_min_sync, min_signed, int, int)
CU_EMU_VOTE(__reduce_min_sync, min_unsigned, unsigned, unsigned)
CU_EMU_VOTE(__reduce_max_sync, max_signed, int, int)
CU_EMU_VOTE(__reduce_max_sync, max_unsigned, unsigned, unsigned)
CU_EMU_VOTE(__reduce_and_sync, bit_and, unsigned, unsigned)
CU_EMU_VOTE(__reduce_or_sync, bit_or, unsigned, unsigned)
CU_EMU_VOTE(__reduce_xor_sync, bit_xor, unsigned, unsigned)
#undef CU_EMU_VOTE

/* CUDA promises the caller's lane and whoever happens to be with it: here nobody else is. */
inline unsigned __activemask() { return cu_emu::lane_bit(); }

inline long long clock64() { return cu_emu::read_clock(); }

inline void __threadfence() { cu_emu::fence(); }
inline void __threadfence_block() { cu_emu::fence(); }
inline void __threadfence_system() { cu_emu::fence(); }
inline void __trap() { cu_emu::trap("__trap()"); }

/* Loads and stores with cache hints: plain ones here. */
#define CU_EMU_LOAD(name)                                                                          \
    template <class T> inline T name(const T *p) {                                                 \
        static_assert(cu_emu::HasHintedLoads<T>::value, "CUDA has no " #name "() of this type");   \
        return *p;                                                                                 \
    }
#define CU_EMU_STORE(name)                                                                         \
    template <class T> inline void name(T *p, T value) {                                           \
        static_assert(cu_emu::HasHintedLoads<T>::value, "CUDA has no " #name "() of this type");   \
        *p = value;                                                                                \
    }
CU_EMU_LOAD(__ldg)
CU_EMU_LOAD(__ldca)
CU_EMU_LOAD(__ldcg)
CU_EMU_LOAD(__ldcs)
CU_EMU_LOAD(__ldlu)
CU_EMU_LOAD(__ldcv)
CU_EMU_STORE(__stcg)
CU_EMU_STORE(__stcs)
CU_EMU_STORE(__stwb)
CU_EMU_STORE(__stwt)
#undef CU_EMU_LOAD
#undef CU_EMU_STORE

#endif
