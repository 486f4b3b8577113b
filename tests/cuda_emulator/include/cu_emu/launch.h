/* WR_LAUNCH and WR_DYNAMIC_SHARED for the emulator; ops/cuda/launch.cuh has them for nvcc. */
#ifndef CU_EMU_LAUNCH_H
#define CU_EMU_LAUNCH_H

#include "cu_emu/api.h"
#include "cu_emu/device.h"
#include <memory>
#include <tuple>

namespace cu_emu {

/* A launch with its arguments, kept until the stream comes to it. */
class Launch {
  public:
    const char *name = nullptr;
    const void *kernel = nullptr;
    dim3 grid, block;
    size_t shared_bytes = 0;
    Launch() = default;
    Launch(const Launch &) = delete;
    Launch &operator=(const Launch &) = delete;
    virtual ~Launch() = default;
    /* Runs the kernel for the current thread. */
    virtual void call() const = 0;
};

template <class... P> class LaunchOf final : public Launch {
  public:
    template <class... A>
    explicit LaunchOf(void (*function)(P...), const A &...arguments)
        : function_(function), arguments_(static_cast<P>(arguments)...) {}
    void call() const override { std::apply(function_, arguments_); }

  private:
    void (*function_)(P...);
    std::tuple<P...> arguments_;
};

/* Records in the last error that argument `index` is no memory of the device. */
bool pointer_is_of_device(const char *name, int index, const void *pointer);

template <class T> bool argument_is_fine(const char *name, int index, const T &argument) {
    if constexpr (std::is_pointer_v<T>)
        return pointer_is_of_device(name, index, static_cast<const void *>(argument));
    else
        return true;
}

/* Checks the sizes and gives the launch to the stream; errors are cudaGetLastError()'s. */
void enqueue(std::shared_ptr<Launch> launch, cudaStream_t stream);

template <class... P, class... A>
void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, const A &...arguments) {
    static_assert(sizeof...(P) == sizeof...(A), "the kernel has another number of arguments");
    static_assert((std::is_trivially_destructible_v<P> && ...), "arguments are copied bytes");
    static_assert((sizeof(P) + ... + 0) <= 4096, "arguments of a kernel: at most 4096 bytes");
    auto launch = std::make_shared<LaunchOf<P...>>(kernel, arguments...);
    launch->name = name;
    launch->kernel = reinterpret_cast<const void *>(kernel);
    launch->grid = grid;
    launch->block = block;
    launch->shared_bytes = shared_bytes;
    int index = 0;
    if ((argument_is_fine<P>(name, ++index, static_cast<P>(arguments)) && ...))
        enqueue(std::move(launch), stream);
}

} // namespace cu_emu

#define WR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                  \
    cu_emu::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

#define WR_DYNAMIC_SHARED(T, name) T *name = static_cast<T *>(cu_emu::dynamic_shared())

#endif
