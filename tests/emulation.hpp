// Just enough of CUDA to run m2a/runtime/gpu/kernels.cu on a CPU: each thread of a block is a fiber
// that runs from barrier to barrier, in ascending or in descending order; blocks run one after the
// other.
//
// It shows that the arithmetic, the indices, the loops and the places of the barriers are right: a
// thread that reads what another writes without a barrier in between gets something else in one of
// the two orders. It shows nothing of a GPU's memory model, of warps, of alignment, or of blocks
// that run at once.
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__ static
#define __shared__ static

struct Index {
    unsigned int x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

static float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static int atomicOr(int* place, int bits) {
    int before = *place;
    *place |= bits;
    return before;
}

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> body;

static void __syncthreads() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

static void run_fiber() {
    body();
    fibers[threadIdx.x].done = true;
}

// Runs a block; whether at every barrier all threads met, or at the end.
static bool run_block(unsigned int threads, bool descending) {
    fibers.resize(threads);
    for (Fiber& fiber : fibers) {
        fiber.stack.resize(1 << 16);
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (;;) {
        unsigned int finished = 0;
        for (unsigned int turn = 0; turn < threads; ++turn) {
            threadIdx.x = descending ? threads - 1 - turn : turn;
            swapcontext(&scheduler, &fibers[threadIdx.x].context);
            finished += fibers[threadIdx.x].done;
        }
        if (finished == threads) return true;
        if (finished != 0) return false;
    }
}

template <typename T>
struct Letter {
    static constexpr char value = '?';
};
template <typename T>
struct Letter<T*> {
    static constexpr char value = 'P';
};
template <>
struct Letter<int> {
    static constexpr char value = 'i';
};
template <>
struct Letter<float> {
    static constexpr char value = 'f';
};

enum Outcome { DONE, WRONG_ARGUMENTS, WRONG_THREADS, BARRIER_NOT_MET_BY_ALL };

template <typename... A, std::size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

// Runs a kernel. `types` holds a letter for each argument; `arguments`, where each lies.
template <typename... A>
static int launch(void (*kernel)(A...), unsigned int blocks, unsigned int threads, int descending,
                  const char* types, void** arguments) {
    const char expected[] = {Letter<A>::value..., '\0'};
    if (std::strcmp(expected, types) != 0) return WRONG_ARGUMENTS;
    if (threads != M2A_THREADS || blocks == 0) return WRONG_THREADS;
    body = [=] { call(kernel, arguments, std::index_sequence_for<A...>{}); };
    blockDim = {threads};
    gridDim = {blocks};
    for (unsigned int number = 0; number < blocks; ++number) {
        blockIdx = {number};
        if (!run_block(threads, descending != 0)) return BARRIER_NOT_MET_BY_ALL;
    }
    return DONE;
}
