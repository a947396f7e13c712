// What a GPU does to a frame before and after the network, in CUDA C.
//
// rtseg.engines.kernels knows these structures and compiles this file for the GPU at hand; the
// tests compile it for several GPUs with NVRTC, and run it on the host, compiled as C++.
// A picture is YUV 4:2:0 in three planes, U and V either apart (I420) or side by side (NV12).

typedef unsigned char u8;

struct Picture {
  u8 *y, *u, *v;
  int width, height;        // of luma, in pixels; chroma has half of each, rounded up
  int pitch, chroma_pitch;  // bytes from row to row
  int step;                 // bytes from one chroma sample to the next: 1, or 2 in NV12
  int reserved;
};

struct Resize {
  Picture source;
  u8 *rgb;  // height x width x 3
  int width, height;
  float black, luma, red_v, green_u, green_v, blue_u;  // the colour matrix
};

struct Paint {
  Picture picture;
  const u8 *labels;  // label_height x label_width
  const u8 *table;   // 256 x 4: Y, U, V of a class, and whether it is painted
  int label_width, label_height;
  float alpha;  // weight of the colours
  int reserved;
};

// The samples of a row or column that make one sample of another size, with whole-number
// weights: 'head' for the first, 'tail' for the last, 'full' between them.
struct Taps {
  int first, last;
  int head, tail, full, sum;
};

// Area where it shrinks: what of each sample lies within; linear where it enlarges. Both with
// half-pixel centres, as swscale's SWS_AREA does it. Sizes up to 16384 do not overflow.
__device__ static Taps taps(int target_index, int source, int target) {
  Taps t;
  if (source >= target) {
    int begin = target_index * source, end = begin + source;
    t.first = begin / target;
    t.last = (end - 1) / target;
    int boundary = (t.first + 1) * target;
    t.head = (boundary < end ? boundary : end) - begin;
    t.tail = end - t.last * target;
    t.full = target;
    t.sum = source;
    return t;
  }
  int unit = 2 * target;
  int place = (2 * target_index + 1) * source - target;  // of the centre, in 1/unit samples
  t.sum = t.full = unit;
  if (place < 0 || place / unit >= source - 1) {  // beyond the outermost centres
    t.first = t.last = place < 0 ? 0 : source - 1;
    t.head = t.tail = unit;
    return t;
  }
  t.first = place / unit;
  t.last = t.first + 1;
  t.tail = place - t.first * unit;
  t.head = unit - t.tail;
  return t;
}

__device__ static float mean(const u8 *plane, int pitch, int step, Taps columns, Taps rows) {
  float total = 0;
  for (int row = rows.first; row <= rows.last; row++) {
    const u8 *line = plane + (long long)row * pitch;
    int part = columns.head * line[columns.first * step];  // below 2^24 for any size
    for (int column = columns.first + 1; column < columns.last; column++)
      part += columns.full * line[column * step];
    if (columns.last > columns.first) part += columns.tail * line[columns.last * step];
    int weight = row == rows.first ? rows.head : row == rows.last ? rows.tail : rows.full;
    total += (float)weight * (float)part;
  }
  return total / ((float)columns.sum * (float)rows.sum);
}

__device__ static u8 level(float value) {
  return (u8)rintf(fminf(fmaxf(value, 0.0f), 255.0f));
}

// One thread for two pixels side by side, which share their colour, as in swscale's RGB.
extern "C" __global__ void rtseg_resize(const Resize job) {
  int pair = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  int y = (int)(blockIdx.y * blockDim.y + threadIdx.y);
  int pairs = (job.width + 1) / 2;
  if (pair >= pairs || y >= job.height) return;

  int chroma_width = (job.source.width + 1) / 2, chroma_height = (job.source.height + 1) / 2;
  Taps columns = taps(pair, chroma_width, pairs), rows = taps(y, chroma_height, job.height);
  float u = mean(job.source.u, job.source.chroma_pitch, job.source.step, columns, rows) - 128.0f;
  float v = mean(job.source.v, job.source.chroma_pitch, job.source.step, columns, rows) - 128.0f;
  float red = job.red_v * v, green = job.green_u * u + job.green_v * v, blue = job.blue_u * u;

  rows = taps(y, job.source.height, job.height);
  for (int x = 2 * pair; x < 2 * pair + 2 && x < job.width; x++) {
    columns = taps(x, job.source.width, job.width);
    float luma = mean(job.source.y, job.source.pitch, 1, columns, rows);
    luma = job.luma * (luma - job.black);
    u8 *pixel = job.rgb + ((long long)y * job.width + x) * 3;
    pixel[0] = level(luma + red);
    pixel[1] = level(luma + green);
    pixel[2] = level(luma + blue);
  }
}

// The class in which the centre of a sample lies, as rtseg.realtime.nearest has it.
__device__ static const u8 *entry(const Paint &job, int x, int y, int width, int height) {
  int column = (int)((2 * x + 1) * (long long)job.label_width / (2 * width));
  int row = (int)((2 * y + 1) * (long long)job.label_height / (2 * height));
  return job.table + 4 * job.labels[(long long)row * job.label_width + column];
}

__device__ static void blend(u8 *sample, u8 colour, float alpha) {
  *sample = level((float)*sample * (1.0f - alpha) + (float)colour * alpha);
}

// One thread for a chroma sample and its four luma samples; in place.
extern "C" __global__ void rtseg_paint(const Paint job) {
  int column = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  int row = (int)(blockIdx.y * blockDim.y + threadIdx.y);
  int width = job.picture.width, height = job.picture.height;
  int chroma_width = (width + 1) / 2, chroma_height = (height + 1) / 2;
  if (column >= chroma_width || row >= chroma_height) return;

  for (int y = 2 * row; y < 2 * row + 2 && y < height; y++)
    for (int x = 2 * column; x < 2 * column + 2 && x < width; x++) {
      const u8 *one = entry(job, x, y, width, height);
      if (one[3]) blend(job.picture.y + (long long)y * job.picture.pitch + x, one[0], job.alpha);
    }
  const u8 *one = entry(job, column, row, chroma_width, chroma_height);
  if (!one[3]) return;
  long long place = (long long)row * job.picture.chroma_pitch + column * job.picture.step;
  blend(job.picture.u + place, one[1], job.alpha);
  blend(job.picture.v + place, one[2], job.alpha);
}
