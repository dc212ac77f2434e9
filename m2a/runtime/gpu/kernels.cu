// The CUDA kernels between the two graphs (DESIGN sections 4 and 7): what m2a/runtime/sites.py and
// m2a/runtime/pixels.py are on a CPU, bit for bit.
//
// Rows are ordered by pixel index, row-major, at every level; an absent site has the row number
// N_l. Masks, row maps and the network's planes are padded to multiples of 32; the picture is not.
// Indices are 32-bit: the host refuses pictures of more than MAX_PIXELS (kernels.py). No kernel
// depends on the order in which threads run: the only atomic operation sets a flag.
//
// Every loop is a grid-stride loop, so that any number of blocks gives the same result. Threads of
// a block: M2A_THREADS, which sizes the shared arrays.

typedef unsigned char uint8;
typedef unsigned short uint16;

#ifndef M2A_THREADS
#define M2A_THREADS 256
#endif

// Pixels that a thread counts, one after the other; a block's share is a chunk.
#define ITEMS 8
#define CHUNK (M2A_THREADS * ITEMS)

#define PATCH 5
#define PATCH_VALUES (PATCH * PATCH * 3)

#define FOR_EACH(i, n)                                                              \
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), end_ = (n),          \
             stride_ = (int)(gridDim.x * blockDim.x);                               \
         i < end_; i += stride_)

// ---- Pixels -------------------------------------------------------------------------------------

// The index that position i reads by reflection, in 0 … n - 1.
__device__ int reflect(int i, int n) {
    if (n == 1) return 0;
    int period = 2 * (n - 1);
    int k = i % period;
    if (k < 0) k += period;
    return k < period - k ? k : period - k;
}

// Colour c of a picture [height, width, channels], in [0, 1], reflected at the border; grey
// (colours = 1) is repeated. What follows the colours in a pixel is alpha.
template <typename T>
__device__ float colour_at(const T* picture, int y, int x, int c, int height, int width,
                           int channels, int colours, float white) {
    int pixel = reflect(y, height) * width + reflect(x, width);
    return (float)picture[pixel * channels + (colours == 1 ? 0 : c)] / white;
}

// A padded plane [height, width], turned: m2a/runtime/ensemble.py. Bits of a turn:
#define TRANSPOSE 4
#define FLIP_Y 2
#define FLIP_X 1

__device__ int turned_width(int turn, int height, int width) {
    return turn & TRANSPOSE ? height : width;
}

// From a place in the turned plane to the same in the plane as it is; it may lie outside of both.
__device__ void turn_back(int turn, int height, int width, int* y, int* x) {
    if (turn & FLIP_Y) *y = (turn & TRANSPOSE ? width : height) - 1 - *y;
    if (turn & FLIP_X) *x = (turn & TRANSPOSE ? height : width) - 1 - *x;
    if (turn & TRANSPOSE) {
        int kept = *y;
        *y = *x;
        *x = kept;
    }
}

// The same for an index into the turned plane; returns that into the plane as it is.
__device__ int place_of(int i, int turn, int height, int width) {
    int across = turned_width(turn, height, width);
    int y = i / across, x = i % across;
    turn_back(turn, height, width, &y, &x);
    return y * width + x;
}

// planes f32 [3, padded_height, padded_width]: the mask graph's `image`; turned, its sides too.
template <typename T>
__device__ void fill_planes(const T* picture, float* planes, int height, int width, int channels,
                            int colours, float white, int padded_height, int padded_width,
                            int turn) {
    int plane = padded_height * padded_width;
    FOR_EACH(i, 3 * plane) {
        int pixel = place_of(i % plane, turn, padded_height, padded_width);
        planes[i] = colour_at(picture, pixel / padded_width, pixel % padded_width, i / plane,
                              height, width, channels, colours, white);
    }
}

// patches f32 [count, 75] in the order (ky, kx, c), of pixels of the turned plane.
template <typename T>
__device__ void fill_patches(const T* picture, const int* pixels, float* patches, int count,
                             int height, int width, int channels, int colours, float white,
                             int padded_height, int padded_width, int turn) {
    int across = turned_width(turn, padded_height, padded_width);
    FOR_EACH(i, count * PATCH_VALUES) {
        int pixel = pixels[i / PATCH_VALUES];
        int k = i % PATCH_VALUES;
        int y = pixel / across + k / (PATCH * 3) - PATCH / 2;
        int x = pixel % across + k % (PATCH * 3) / 3 - PATCH / 2;
        turn_back(turn, padded_height, padded_width, &y, &x);
        patches[i] = colour_at(picture, y, x, k % 3, height, width, channels, colours, white);
    }
}

__device__ void store(uint8* place, float value) { *place = (uint8)rintf(value); }
__device__ void store(uint16* place, float value) { *place = (uint16)rintf(value); }
__device__ void store(float* place, float value) { *place = value; }

// Adds residual f32 [count, 3] to the active pixels, in place: rounded to nearest, clipped to the
// range. Grey takes the mean.
template <typename T>
__device__ void add_at(T* picture, const float* residual, const int* pixels, int count, int width,
                       int channels, int colours, float white, int padded_width) {
    FOR_EACH(i, count * colours) {
        int row = i / colours;
        int c = i % colours;
        const float* own = residual + 3 * row;
        float change = colours == 1 ? (own[0] + own[1] + own[2]) / 3.0f : own[c];
        int pixel = pixels[row];
        T* place =
            picture + ((pixel / padded_width) * width + pixel % padded_width) * channels + c;
        float value = (float)*place / white + change;
        value = value > 0.0f ? value : 0.0f;
        value = value < 1.0f ? value : 1.0f;
        store(place, value * white);
    }
}

#define FOR_TYPE(T, SUFFIX)                                                                        \
    extern "C" __global__ void planes_##SUFFIX(                                                    \
        const T* picture, float* planes, int height, int width, int channels, int colours,         \
        float white, int padded_height, int padded_width, int turn) {                              \
        fill_planes(picture, planes, height, width, channels, colours, white, padded_height,       \
                    padded_width, turn);                                                           \
    }                                                                                              \
    extern "C" __global__ void patches_##SUFFIX(                                                   \
        const T* picture, const int* pixels, float* patches, int count, int height, int width,     \
        int channels, int colours, float white, int padded_height, int padded_width, int turn) {   \
        fill_patches(picture, pixels, patches, count, height, width, channels, colours, white,     \
                     padded_height, padded_width, turn);                                           \
    }                                                                                              \
    extern "C" __global__ void add_residual_##SUFFIX(                                              \
        T* picture, const float* residual, const int* pixels, int count, int width, int channels,  \
        int colours, float white, int padded_width) {                                              \
        add_at(picture, residual, pixels, count, width, channels, colours, white, padded_width);   \
    }

FOR_TYPE(uint8, uint8)
FOR_TYPE(uint16, uint16)
FOR_TYPE(float, float32)

// ---- Masks --------------------------------------------------------------------------------------

// Active where the probability is at least the threshold; padding never is.
extern "C" __global__ void threshold_mask(const float* probability, uint8* mask, int height,
                                          int width, int padded_height, int padded_width,
                                          float threshold) {
    FOR_EACH(i, padded_height * padded_width) {
        bool inside = i / padded_width < height && i % padded_width < width;
        mask[i] = inside && probability[i] >= threshold;
    }
}

// Whether any of the places within the radius along a line of the given length is active.
__device__ bool any_within(const uint8* line, int place, int length, int step, int radius) {
    int first = place - radius > 0 ? place - radius : 0;
    int last = place + radius < length - 1 ? place + radius : length - 1;
    for (int i = first; i <= last; ++i)
        if (line[i * step]) return true;
    return false;
}

// Dilation by a (2 · radius + 1)² square is one along rows, then one along columns.
extern "C" __global__ void dilate_rows(const uint8* mask, uint8* out, int height, int width,
                                       int padded_height, int padded_width, int radius) {
    FOR_EACH(i, padded_height * padded_width) {
        int y = i / padded_width, x = i % padded_width;
        out[i] = y < height && x < width &&
                 any_within(mask + y * padded_width, x, width, 1, radius);
    }
}

extern "C" __global__ void dilate_columns(const uint8* mask, uint8* out, int height, int width,
                                          int padded_height, int padded_width, int radius) {
    FOR_EACH(i, padded_height * padded_width) {
        int y = i / padded_width, x = i % padded_width;
        out[i] = y < height && x < width && any_within(mask + x, y, height, padded_width, radius);
    }
}

// A site of the next level is active where any of its 2×2 children is.
extern "C" __global__ void pool_mask(const uint8* fine, uint8* coarse, int coarse_height,
                                     int coarse_width) {
    FOR_EACH(i, coarse_height * coarse_width) {
        int y = i / coarse_width, x = i % coarse_width;
        const uint8* first = fine + 2 * y * 2 * coarse_width + 2 * x;
        coarse[i] = first[0] | first[1] | first[2 * coarse_width] | first[2 * coarse_width + 1];
    }
}

// ---- Rows: count per chunk, scan the counts, place ----------------------------------------------

// The sum of the values of this thread and of those before it in the block. The last thread's is
// in partial[blockDim.x - 1] for all, until the next __syncthreads().
__device__ int sum_up_to(int value, int* partial) {
    int own = (int)threadIdx.x;
    partial[own] = value;
    __syncthreads();
    for (int step = 1; step < (int)blockDim.x; step *= 2) {
        int left = own >= step ? partial[own - step] : 0;
        __syncthreads();
        partial[own] += left;
        __syncthreads();
    }
    return partial[own];
}

__device__ int count_items(const uint8* mask, int first, int n) {
    int found = 0;
    for (int i = first; i < first + ITEMS; ++i)
        if (i < n && mask[i]) ++found;
    return found;
}

// counts [chunks]: the active sites of each chunk.
extern "C" __global__ void count_active(const uint8* mask, int* counts, int n, int chunks) {
    __shared__ int partial[M2A_THREADS];
    for (int chunk = (int)blockIdx.x; chunk < chunks; chunk += (int)gridDim.x) {
        int found = count_items(mask, chunk * CHUNK + (int)threadIdx.x * ITEMS, n);
        int sum = sum_up_to(found, partial);
        if (threadIdx.x == blockDim.x - 1) counts[chunk] = sum;
        __syncthreads();
    }
}

// Turns the counts into the number of active sites before each chunk. One block only.
extern "C" __global__ void scan_counts(int* counts, int* total, int chunks) {
    __shared__ int partial[M2A_THREADS];
    int before = 0;
    for (int first = 0; first < chunks; first += (int)blockDim.x) {
        int chunk = first + (int)threadIdx.x;
        int own = chunk < chunks ? counts[chunk] : 0;
        int sum = sum_up_to(own, partial);
        if (chunk < chunks) counts[chunk] = before + sum - own;
        before += partial[blockDim.x - 1];
        __syncthreads();
    }
    if (threadIdx.x == 0) *total = before;
}

// rows [n]: site → row, `count` where it is absent; pixels [count]: row → site.
extern "C" __global__ void place_rows(const uint8* mask, const int* before, int* rows, int* pixels,
                                      int n, int chunks, int count) {
    __shared__ int partial[M2A_THREADS];
    for (int chunk = (int)blockIdx.x; chunk < chunks; chunk += (int)gridDim.x) {
        int first = chunk * CHUNK + (int)threadIdx.x * ITEMS;
        int found = count_items(mask, first, n);
        int row = before[chunk] + sum_up_to(found, partial) - found;
        for (int i = first; i < first + ITEMS && i < n; ++i) {
            if (mask[i]) {
                pixels[row] = i;
                rows[i] = row++;
            } else {
                rows[i] = count;
            }
        }
        __syncthreads();
    }
}

// ---- Tables -------------------------------------------------------------------------------------

// table [count, 9]: the rows of the 3×3 neighbours, order (ky, kx).
extern "C" __global__ void neighbours(const int* rows, const int* pixels, int* table, int count,
                                      int height, int width) {
    FOR_EACH(i, count * 9) {
        int pixel = pixels[i / 9];
        int y = pixel / width + i % 9 / 3 - 1;
        int x = pixel % width + i % 3 - 1;
        bool inside = y >= 0 && y < height && x >= 0 && x < width;
        table[i] = inside ? rows[y * width + x] : count;
    }
}

// table [count, 4]: the rows of the 2×2 children of each coarse site, order (y, x).
extern "C" __global__ void children(const int* fine_rows, const int* coarse_pixels, int* table,
                                    int count, int coarse_width) {
    FOR_EACH(i, count * 4) {
        int pixel = coarse_pixels[i / 4];
        int y = 2 * (pixel / coarse_width) + i % 4 / 2;
        int x = 2 * (pixel % coarse_width) + i % 2;
        table[i] = fine_rows[y * 2 * coarse_width + x];
    }
}

// table [count]: 4 · row of each fine site's parent + quadrant 2 · (y mod 2) + (x mod 2).
extern "C" __global__ void parents(const int* coarse_rows, const int* fine_pixels, int* table,
                                   int count, int fine_width) {
    FOR_EACH(i, count) {
        int y = fine_pixels[i] / fine_width, x = fine_pixels[i] % fine_width;
        int parent = coarse_rows[y / 2 * (fine_width / 2) + x / 2];
        table[i] = 4 * parent + 2 * (y % 2) + x % 2;
    }
}

// xy [count, 2]: the coordinates (x, y) of each site; grid_size [2]: (width, height).
extern "C" __global__ void site_xy(const int* pixels, int* xy, int* grid_size, int count,
                                   int height, int width) {
    FOR_EACH(i, count) {
        xy[2 * i] = pixels[i] % width;
        xy[2 * i + 1] = pixels[i] / width;
        if (i == 0) {
            grid_size[0] = width;
            grid_size[1] = height;
        }
    }
}

// ---- Ensembles: the mean over a picture's turns -------------------------------------------------

// The mask [height, width], turned.
extern "C" __global__ void turn_mask(const uint8* mask, uint8* turned, int height, int width,
                                     int turn) {
    FOR_EACH(i, height * width) turned[i] = mask[place_of(i, turn, height, width)];
}

// Adds the logits of a turned probability to those [height, width]; the first are put there.
extern "C" __global__ void add_logits(const float* probability, float* logits, int height,
                                      int width, int turn, int first) {
    const float least = 5.9604644775390625e-8f;  // 2^-24: a certain probability's logit is finite
    FOR_EACH(i, height * width) {
        float p = probability[i];
        p = p > least ? p : least;
        p = p < 1.0f - least ? p : 1.0f - least;
        float logit = logf(p) - log1pf(-p);
        float* place = logits + place_of(i, turn, height, width);
        *place = first ? logit : *place + logit;
    }
}

// The probability of the mean logit.
extern "C" __global__ void mean_probability(const float* logits, float* probability, int n,
                                            int turns) {
    FOR_EACH(i, n) probability[i] = 1.0f / (1.0f + expf(-(logits[i] / (float)turns)));
}

// Adds residual f32 [count, 3] of the turned pixels to sums [height, width, 3]; the first is put
// there. Only active pixels have a sum.
extern "C" __global__ void add_turned_residual(const float* residual, const int* pixels,
                                               float* sums, int count, int height, int width,
                                               int turn, int first) {
    FOR_EACH(i, count * 3) {
        float* place = sums + place_of(pixels[i / 3], turn, height, width) * 3 + i % 3;
        *place = first ? residual[i] : *place + residual[i];
    }
}

// residual f32 [count, 3] becomes the mean, and the turned pixels those of the plane as it is.
extern "C" __global__ void mean_residual(const float* sums, int* pixels, float* residual,
                                         int count, int height, int width, int turn, int turns) {
    FOR_EACH(i, count) {
        int pixel = place_of(pixels[i], turn, height, width);
        for (int c = 0; c < 3; ++c) residual[3 * i + c] = sums[3 * pixel + c] / (float)turns;
        pixels[i] = pixel;
    }
}

// ---- Results ------------------------------------------------------------------------------------

// grid f32 [cells, 4]: each active cell's trajectory; not a number where there is none.
extern "C" __global__ void motion_grid(const float* motion, const int* site_map, float* grid,
                                       int cells, int count) {
    FOR_EACH(i, cells * 4) {
        int row = site_map[i / 4];
        grid[i] = row < count ? motion[4 * row + i % 4] : __int_as_float(0x7fc00000);
    }
}

extern "C" __global__ void clear_flag(int* flag) {
    if (blockIdx.x == 0 && threadIdx.x == 0) *flag = 0;
}

// Raises the flag if a value is infinite or not a number.
extern "C" __global__ void flag_not_finite(const float* values, int* flag, int n) {
    FOR_EACH(i, n) {
        if (!(fabsf(values[i]) <= 3.402823466e+38f)) atomicOr(flag, 1);
    }
}
