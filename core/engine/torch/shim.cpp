#include "shim.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <dlfcn.h>
#include <malloc.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor &T(ll_tensor t) { return *static_cast<Tensor *>(t); }
ll_tensor box(Tensor t) { return new Tensor(std::move(t)); }

// The message without libtorch's C++ stack, which says nothing to our users.
char *message(const std::exception &e) {
  std::string s = e.what();
  for (const char *cut : {"\nException raised from", "Exception raised from"}) {
    if (auto at = s.find(cut); at != std::string::npos) s.resize(at);
  }
  while (!s.empty() && (s.back() == '\n' || s.back() == ' ')) s.pop_back();
  return strdup(s.c_str());
}

template <class F>
char *guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception &e) {
    return message(e);
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

at::Generator generator(int device) {
  if (device < 0) return at::detail::getDefaultCPUGenerator();
  return at::globalContext().defaultGenerator(at::Device(at::kCUDA, device));
}

at::Device cuda(int index) { return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)); }

// Memory that a device copies from and to by itself. The allocator gives a block away
// again only after the copies from it, so it may be let go at once.
Tensor pinned(at::IntArrayRef shape, at::ScalarType kind) {
  return at::empty(shape, at::TensorOptions().dtype(kind).pinned_memory(true));
}

// A function of the driver, NULL if there is none.
template <class F>
F *driver(const char *name) {
  static void *lib = dlopen("libcuda.so.1", RTLD_LAZY);
  return lib ? reinterpret_cast<F *>(dlsym(lib, name)) : nullptr;
}

// Allows one kernel of attention while it lives; 1: all of them.
struct Kernel {
  explicit Kernel(int form) : any(form == 1) {
    if (!any) set(form == 2, form == 3, form == 4, false);
  }
  ~Kernel() {
    if (!any) set(true, true, true, true);
  }
  static void set(bool flash, bool efficient, bool cudnn, bool math) {
    auto &c = at::globalContext();
    c.setSDPUseFlash(flash), c.setSDPUseMemEfficient(efficient), c.setSDPUseCuDNN(cudnn), c.setSDPUseMath(math);
  }
  bool any;
};

// Counts the bytes of tensors on the thread that holds it as its debug info.
struct ByteCounter : c10::MemoryReportingInfoBase {
  int64_t live = 0;
  void reportMemoryUsage(void *, int64_t alloc, size_t, size_t, c10::Device) override { live += alloc; }
  bool memoryProfilingEnabled() const override { return true; }
};
std::shared_ptr<ByteCounter> counter;

// y = x Wᵀ + b, and for each part p: y[:, o_p:o_p+n_p] += s_p (x A_pᵀ) B_pᵀ.
//
// One node instead of a dozen: q, k and v of a block share x, so their frozen
// weights are one product and their A's are one product. W and b are frozen.
// a is all A's below each other, [R, in]; b is all B's, flat, one after the
// other (a custom function sees single tensors only, not lists of them). Where
// A does not act on x itself but, say, on x after dropout, h [T, R] is given
// instead of a and stands for xAᵀ.
//
// In bf16 the low-rank part goes inside the frozen product,
// [x | xAᵀ] · [W | sB]ᵀ, so that the sum is rounded once. Added to an output
// already rounded to bf16, the small deltas of a young adapter would vanish.
struct LowRankLinear : torch::autograd::Function<LowRankLinear> {
  // Of each part: first output, outputs, first rank, rank, start in b.
  struct Part {
    int64_t out, outs, r, rank, at;
    double scale;
  };
  static std::vector<Part> parts(const std::vector<int64_t> &flat, const std::vector<double> &scales) {
    std::vector<Part> ps;
    int64_t r = 0, at = 0;
    for (size_t i = 0; i < scales.size(); i++) {
      Part p{flat[3 * i], flat[3 * i + 1], r, flat[3 * i + 2], at, scales[i]};
      r += p.rank, at += p.outs * p.rank;
      ps.push_back(p);
    }
    return ps;
  }
  static Tensor block(const Tensor &b, const Part &p) {
    return b.narrow(0, p.at, p.outs * p.rank).view({p.outs, p.rank});
  }

  static Tensor forward(AutogradContext *ctx, const Tensor &x_in, const Tensor &w,
                        const std::optional<Tensor> &bias, const std::optional<Tensor> &a,
                        const std::optional<Tensor> &h, const Tensor &b,
                        std::vector<int64_t> flat, std::vector<double> scales) {
    const bool low = x_in.scalar_type() == at::kBFloat16;
    const auto in = w.size(1), rank = h ? h->size(1) : a->size(0);
    auto sizes = x_in.sizes().vec();
    Tensor x = x_in.reshape({-1, in});
    // [T, R]
    Tensor xa = h ? h->to(x.scalar_type()) : at::mm(x, a->to(x.scalar_type()).t());
    Tensor y;
    if (low) {
      // Tensor cores take rows of whole 16 bytes.
      const auto width = x.is_cuda() ? (in + rank + 7) / 8 * 8 : in + rank;
      std::vector<Tensor> columns{x, xa};
      if (width > in + rank) columns.push_back(at::zeros({x.size(0), width - in - rank}, x.options()));
      Tensor xs = at::cat(columns, 1);
      Tensor ws = at::empty({w.size(0), width}, w.options());
      ws.narrow(1, 0, in).copy_(w);
      auto tail = ws.narrow(1, in, width - in);
      tail.zero_();
      for (const auto &p : parts(flat, scales))
        tail.narrow(0, p.out, p.outs).narrow(1, p.r, p.rank).copy_(block(b, p) * p.scale);
      y = bias ? at::addmm(*bias, xs, ws.t()) : at::mm(xs, ws.t());
    } else {
      y = bias ? at::addmm(*bias, x, w.t()) : at::mm(x, w.t());
      for (const auto &p : parts(flat, scales))
        y.narrow(1, p.out, p.outs).addmm_(xa.narrow(1, p.r, p.rank), block(b, p).t(), 1, p.scale);
    }
    ctx->save_for_backward({x, w, xa, h ? Tensor() : *a, b});
    ctx->saved_data["h"] = h ? static_cast<int64_t>(h->scalar_type()) : -1;
    ctx->saved_data["flat"] = flat;
    ctx->saved_data["scales"] = scales;
    ctx->saved_data["sizes"] = sizes;
    sizes.back() = w.size(0);
    return y.view(sizes);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], &xa = saved[2], &a = saved[3], &b = saved[4];
    auto sizes = ctx->saved_data["sizes"].toIntVector();
    const bool low = x.scalar_type() == at::kBFloat16;
    Tensor g = grads[0].reshape({-1, w.size(0)});
    Tensor ga = at::empty(xa.sizes(), g.options());
    Tensor db = at::empty_like(b);
    for (const auto &p : parts(ctx->saved_data["flat"].toIntVector(), ctx->saved_data["scales"].toDoubleVector())) {
      Tensor gp = g.narrow(1, p.out, p.outs);
      ga.narrow(1, p.r, p.rank).copy_(at::mm(gp, (block(b, p) * p.scale).to(g.scalar_type())));
      block(db, p).copy_(at::mm(gp.t(), xa.narrow(1, p.r, p.rank)) * p.scale);
    }
    const auto h = ctx->saved_data["h"].toInt();
    Tensor da, dh, dx;
    if (h < 0)
      da = at::mm(ga.t(), x).to(a.scalar_type());
    else
      dh = ga.to(at::ScalarType(h));
    if (ctx->needs_input_grad(0)) {
      dx = at::mm(g, w);
      if (h < 0) dx.addmm_(ga, a.to(dx.scalar_type()));
      dx = dx.view(sizes);
    }
    return {dx, Tensor(), Tensor(), da, dh, db, Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

const char *ll_version(void) { return TORCH_VERSION; }

const char *ll_cpu_capability(void) {
  static std::string s = at::get_cpu_capability();
  return s.c_str();
}

int ll_fast_bf16(void) { return __builtin_cpu_supports("avx512bf16") ? 1 : 0; }

char *ll_set_threads(int intra) {
  return guarded([&] { at::set_num_threads(intra); });
}

int ll_threads(void) { return at::get_num_threads(); }

// A training step frees what the next one allocates again. By default glibc
// gives large blocks back to the kernel, which then hands them out as zeroed
// pages: a sixth of all page faults. Blocks above 32 MiB, the most that glibc
// takes here, are mapped as before. Both have to be set: setting one alone
// freezes the other at its small initial value.
void ll_keep_freed_memory(void) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

char *ll_load_cuda(const char *path) {
  if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) return strdup(dlerror());
  return nullptr;
}

char *ll_set_tf32(int on) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuBLAS(on != 0);
    at::globalContext().setAllowTF32CuDNN(on != 0);
  });
}

int ll_tf32(void) {
  return (at::globalContext().allowTF32CuBLAS() ? 1 : 0) | (at::globalContext().allowTF32CuDNN() ? 2 : 0);
}

int ll_cuda_devices(void) {
  try {
    return torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
  } catch (...) {
    return 0;
  }
}

int ll_cuda_driver(void) {
  int version = 0;
  auto get = driver<int(int *)>("cuDriverGetVersion");
  return get && get(&version) == 0 ? version : 0;
}

int ll_cuda_facts(int index, char *name, int n, int64_t *memory, int *capability) {
  auto device = driver<int(int *, int)>("cuDeviceGet");
  auto called = driver<int(char *, int, int)>("cuDeviceGetName");
  auto total = driver<int(size_t *, int)>("cuDeviceTotalMem_v2");
  auto attribute = driver<int(int *, int, int)>("cuDeviceGetAttribute");
  int d = 0, major = 0, minor = 0;
  size_t bytes = 0;
  if (!device || !called || !total || !attribute || device(&d, index) != 0 || called(name, n, d) != 0 || total(&bytes, d) != 0 ||
      attribute(&major, 75, d) != 0 || attribute(&minor, 76, d) != 0)
    return 0;
  *memory = static_cast<int64_t>(bytes), *capability = 10 * major + minor;
  return 1;
}

char *ll_cuda_begin(int index) {
  return guarded([&] {
    auto &c = at::globalContext();
    c.lazyInitDevice(at::kCUDA);
    // Otherwise the first pinned memory makes a context on device 0, of 500 MB, for
    // engines of all devices.
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(cuda(index));
    // Partial sums of a product stay in fp32.
    c.setAllowBF16ReductionCuBLAS(/*allow_reduced_precision=*/false, /*allow_splitk=*/true);
    c.setBenchmarkCuDNN(false);
  });
}

char *ll_set_deterministic(int on) {
  return guarded([&] {
    at::globalContext().setDeterministicAlgorithms(on != 0, /*warn_only=*/false);
    at::globalContext().setDeterministicCuDNN(on != 0);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  });
}

char *ll_cuda_memory(int index, int reset, int64_t *now, int64_t *peak, int64_t *left, int64_t *total) {
  return guarded([&] {
    auto *a = at::getDeviceAllocator(at::kCUDA);
    const auto stats = a->getDeviceStats(cuda(index).index());
    const auto &bytes = stats.allocated_bytes[0];  // of all pools together
    *now = bytes.current, *peak = bytes.peak;
    const auto info = a->getMemoryInfo(cuda(index).index());
    *left = static_cast<int64_t>(info.first), *total = static_cast<int64_t>(info.second);
    if (reset) a->resetPeakStats(cuda(index).index());
  });
}

// From this size on a copy has a stream of its own, where it does not wait for what is
// computed, and what is computed later waits for it.
constexpr size_t kApart = 64 << 10;

char *ll_upload(ll_tensor *out, const void *data, const int64_t *dims, int ndims, int kind, int device) {
  return guarded([&] {
    at::NoGradGuard no;
    Tensor host = pinned(at::IntArrayRef(dims, ndims), at::ScalarType(kind));
    memcpy(host.data_ptr(), data, host.nbytes());
    const auto to = cuda(device);
    if (host.nbytes() < kApart) {
      *out = box(host.to(to, /*non_blocking=*/true));
      return;
    }
    static std::array<std::optional<c10::Stream>, 64> apart;  // touched by one thread for each device
    c10::impl::VirtualGuardImpl impl(at::kCUDA);
    auto &stream = apart.at(device);
    if (!stream) stream = impl.getStreamFromGlobalPool(to);
    const auto computing = impl.getStream(to);
    Tensor t;
    {
      c10::StreamGuard guard(*stream);
      t = host.to(to, /*non_blocking=*/true);
    }
    c10::Event copied(at::kCUDA);
    copied.record(*stream);
    copied.block(computing);
    t.record_stream(computing);  // its memory is not given away before what reads it has run
    *out = box(std::move(t));
  });
}

struct Later {
  Tensor host;
  c10::Event copied{at::kCUDA};
};

char *ll_later(void **later, ll_tensor t) {
  return guarded([&] {
    at::NoGradGuard no;
    auto l = std::make_unique<Later>();
    l->host = pinned(T(t).sizes(), at::kFloat);
    l->host.copy_(T(t), /*non_blocking=*/true);
    l->copied.record(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(T(t).device()));
    *later = l.release();
  });
}

char *ll_later_read(double *out, void *later) {
  std::unique_ptr<Later> l(static_cast<Later *>(later));
  return guarded([&] {
    l->copied.synchronize();
    const auto *v = l->host.const_data_ptr<float>();
    std::copy(v, v + l->host.numel(), out);
  });
}

char *ll_seed(int device, uint64_t seed) {
  return guarded([&] {
    auto g = generator(device);
    std::lock_guard<std::mutex> lock(g.mutex());
    g.set_current_seed(seed);
  });
}

char *ll_rng_get(int device, ll_tensor *out) {
  return guarded([&] {
    auto g = generator(device);
    std::lock_guard<std::mutex> lock(g.mutex());
    *out = box(g.get_state());
  });
}

char *ll_rng_set(int device, ll_tensor state) {
  return guarded([&] {
    auto g = generator(device);
    std::lock_guard<std::mutex> lock(g.mutex());
    g.set_state(T(state));
  });
}

void ll_count_bytes(void) {
  counter = std::make_shared<ByteCounter>();
  c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, counter);
}
int64_t ll_live_bytes(void) { return counter ? counter->live : 0; }

char *ll_from_blob(ll_tensor *out, void *data, const int64_t *dims, int ndims, int kind) {
  return guarded([&] {
    *out = box(at::from_blob(data, at::IntArrayRef(dims, ndims),
                             at::TensorOptions().dtype(at::ScalarType(kind))));
  });
}

char *ll_backward(ll_tensor loss) {
  return guarded([&] { T(loss).backward(); });
}

char *ll_grad(ll_tensor *out, ll_tensor t) {
  return guarded([&] {
    const auto &g = T(t).grad();
    *out = g.defined() ? box(g) : nullptr;
  });
}

char *ll_drop_grads(ll_tensor *ts, int n) {
  return guarded([&] {
    for (int i = 0; i < n; i++) T(ts[i]).mutable_grad() = Tensor();
  });
}

char *ll_requires_grad(ll_tensor t, int on) {
  return guarded([&] { T(t).set_requires_grad(on != 0); });
}

char *ll_grads_of(ll_tensor *out, ll_tensor y, ll_tensor gy, ll_tensor *xs, int n) {
  return guarded([&] {
    variable_list in;
    for (int i = 0; i < n; i++) in.push_back(T(xs[i]));
    variable_list seed;
    if (gy) seed.push_back(T(gy));
    auto grads = torch::autograd::grad({T(y)}, in, seed, /*retain_graph=*/c10::nullopt,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (int i = 0; i < n; i++) out[i] = grads[i].defined() ? box(grads[i]) : nullptr;
  });
}

char *ll_gelu(ll_tensor *out, ll_tensor x) {
  return guarded([&] { *out = box(at::gelu(T(x))); });
}

char *ll_norm(ll_tensor *out, ll_tensor x, const int64_t *dims, int n, int keep) {
  return guarded([&] {
    *out = box(at::linalg_vector_norm(T(x), 2, at::IntArrayRef(dims, n), keep != 0));
  });
}

char *ll_einsum(ll_tensor *out, const char *equation, ll_tensor *ts, int n) {
  return guarded([&] {
    std::vector<Tensor> v;
    for (int i = 0; i < n; i++) v.push_back(T(ts[i]));
    *out = box(at::einsum(equation, v));
  });
}

char *ll_attention(ll_tensor *out, ll_tensor q, ll_tensor k, ll_tensor v, int form) {
  return guarded([&] {
    const auto &Q = T(q), &K = T(k), &V = T(v);
    if (form > 0) {
      Kernel only(form);
      *out = box(at::scaled_dot_product_attention(Q, K, V));
      return;
    }
    const auto s = Q.sizes();  // [B, H, N, d]
    const auto bh = s[0] * s[1], n = s[2], d = s[3], m = K.size(2);
    auto q3 = Q.reshape({bh, n, d}), k3 = K.reshape({bh, m, d}), v3 = V.reshape({bh, m, d});
    auto scores = at::baddbmm(at::empty({1, 1, 1}, Q.options()), q3, k3.transpose(1, 2), 0,
                              1 / std::sqrt(static_cast<double>(d)));
    *out = box(at::bmm(at::softmax(scores, -1), v3).view({s[0], s[1], n, d}));
  });
}

char *ll_low_rank_linear(ll_tensor *out, ll_tensor x, ll_tensor w, ll_tensor bias, int parts,
                         const int64_t *offsets, ll_tensor *as, ll_tensor *hs, ll_tensor *bs,
                         const double *scales) {
  return guarded([&] {
    using optional = std::optional<Tensor>;
    std::vector<Tensor> a, h, b;
    std::vector<int64_t> flat;
    for (int i = 0; i < parts; i++) {
      if (hs[0])
        h.push_back(T(hs[i]));
      else
        a.push_back(T(as[i]));
      const auto rank = hs[0] ? h[i].size(1) : a[i].size(0);
      b.push_back(T(bs[i]).reshape({-1}));
      flat.insert(flat.end(), {offsets[i], T(bs[i]).size(0), rank});
      TORCH_CHECK(T(bs[i]).size(1) == rank, "B of part ", i, " is ", T(bs[i]).sizes(), ", its rank is ", rank);
      TORCH_CHECK(offsets[i] + T(bs[i]).size(0) <= T(w).size(0), "part ", i, " leaves the output");
    }
    auto join = [&](std::vector<Tensor> &ts, int dim) { return parts == 1 ? ts[0] : at::cat(ts, dim); };
    *out = box(LowRankLinear::apply(T(x), T(w), bias ? optional(T(bias)) : std::nullopt,
                                    hs[0] ? std::nullopt : optional(join(a, 0)),
                                    hs[0] ? optional(join(h, 1)) : std::nullopt, join(b, 0), flat,
                                    std::vector<double>(scales, scales + parts)));
  });
}

char *ll_solve(ll_tensor *out, ll_tensor a, ll_tensor b) {
  return guarded([&] {
    // Whether a matrix is singular only the device knows, and asking it is waiting for
    // it. A singular one gives numbers that are not finite, and those are noticed.
    *out = box(T(a).is_cuda() ? std::get<0>(at::linalg_solve_ex(T(a), T(b))) : at::linalg_solve(T(a), T(b)));
  });
}

// Decompositions make starting values. Those of a GPU have other signs and other last
// bits, and a run starts the same everywhere.
char *ll_svd(ll_tensor *u, ll_tensor *s, ll_tensor *vt, ll_tensor x) {
  return guarded([&] {
    const auto d = T(x).device();
    auto r = at::linalg_svd(T(x).cpu(), /*full_matrices=*/false);
    *u = box(std::get<0>(r).to(d)), *s = box(std::get<1>(r).to(d)), *vt = box(std::get<2>(r).to(d));
  });
}

char *ll_qr(ll_tensor *q, ll_tensor *r, ll_tensor x) {
  return guarded([&] {
    const auto d = T(x).device();
    auto p = at::linalg_qr(T(x).cpu(), "reduced");
    *q = box(std::get<0>(p).to(d)), *r = box(std::get<1>(p).to(d));
  });
}

char *ll_ifft2_real(ll_tensor *out, ll_tensor x) {
  return guarded([&] { *out = box(at::real(at::fft_ifft2(T(x))).contiguous()); });
}

char *ll_topk_mask(ll_tensor *out, ll_tensor x, int64_t k, int64_t dim) {
  return guarded([&] {
    auto idx = std::get<1>(at::topk(T(x).detach(), k, dim));
    *out = box(at::zeros_like(T(x)).scatter(dim, idx, 1));
  });
}

char *ll_argmax(ll_tensor *out, ll_tensor x, int64_t dim) {
  return guarded([&] { *out = box(std::get<1>(at::max(T(x), dim))); });
}

char *ll_copy(ll_tensor dst, ll_tensor src) {
  return guarded([&] {
    at::NoGradGuard no;
    T(dst).copy_(T(src));
  });
}

char *ll_item(double *out, ll_tensor t) {
  return guarded([&] { *out = T(t).item().toDouble(); });
}

char *ll_adam(ll_tensor *params, ll_tensor *ms, ll_tensor *vs, ll_tensor *steps, int n, double lr,
              double beta1, double beta2, double weight_decay, double eps, int decoupled, ll_tensor norm) {
  return guarded([&] {
    at::NoGradGuard no;
    std::vector<Tensor> p, g, m, v, s;
    for (int i = 0; i < n; i++) {
      const auto &grad = T(params[i]).grad();
      if (!grad.defined()) continue;
      p.push_back(T(params[i])), g.push_back(grad);
      m.push_back(T(ms[i])), v.push_back(T(vs[i])), s.push_back(T(steps[i]));
    }
    if (p.empty()) return;
    // The fused kernel reads the step and does not advance it.
    at::_foreach_add_(s, 1);
    std::optional<Tensor> broken;  // 1: the kernel does nothing
    if (norm) broken = at::isfinite(T(norm)).logical_not().to(at::kFloat);
    if (decoupled)
      at::_fused_adamw_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                        /*maximize=*/false, /*grad_scale=*/{}, broken);
    else
      at::_fused_adam_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                       /*maximize=*/false, /*grad_scale=*/{}, broken);
    if (broken) at::_foreach_sub_(s, std::vector<Tensor>(s.size(), *broken));
  });
}

char *ll_sgd(ll_tensor *params, ll_tensor *momenta, int n, double lr, double momentum, double weight_decay,
             int nesterov, ll_tensor norm) {
  return guarded([&] {
    at::NoGradGuard no;
    std::optional<Tensor> whole;
    if (norm) whole = at::isfinite(T(norm));
    for (int i = 0; i < n; i++) {
      auto &p = T(params[i]);
      auto g = p.grad();
      if (!g.defined()) continue;
      if (whole) {
        // As below, and only if the norm is finite.
        auto moved = g;
        if (weight_decay != 0) moved = moved.add(p, weight_decay);
        if (momentum != 0) {
          auto &b = T(momenta[i]);
          auto next = b.mul(momentum).add_(moved);
          moved = nesterov ? moved.add(next, momentum) : next;
          b.copy_(at::where(*whole, next, b));
        }
        p.copy_(at::where(*whole, p.sub(moved, lr), p));
        continue;
      }
      if (weight_decay != 0) g = g.add(p, weight_decay);
      if (momentum != 0) {
        auto &b = T(momenta[i]);
        b.mul_(momentum).add_(g);
        g = nesterov ? g.add(b, momentum) : b;
      }
      p.add_(g, -lr);
    }
  });
}

char *ll_lerp(ll_tensor *to, ll_tensor *from, int n, double by) {
  return guarded([&] {
    at::NoGradGuard no;
    std::vector<Tensor> a, b;
    for (int i = 0; i < n; i++) a.push_back(T(to[i])), b.push_back(T(from[i]));
    if (n > 0) at::_foreach_lerp_(a, b, by);
  });
}

// grads_of are the gradients of those parameters that have one.
static std::vector<Tensor> grads_of(ll_tensor *params, int n) {
  std::vector<Tensor> g;
  for (int i = 0; i < n; i++)
    if (const auto &t = T(params[i]).grad(); t.defined()) g.push_back(t);
  return g;
}

char *ll_clip_grads(double *norm, ll_tensor *params, int n, double max_norm) {
  return guarded([&] {
    at::NoGradGuard no;
    auto g = grads_of(params, n);
    if (g.empty()) {
      *norm = 0;
      return;
    }
    auto total = at::linalg_vector_norm(at::stack(at::_foreach_norm(g)));
    *norm = total.item().toDouble();
    // As torch.nn.utils.clip_grad_norm_: never scaled up.
    if (max_norm > 0 && *norm > max_norm) at::_foreach_mul_(g, max_norm / (*norm + 1e-6));
  });
}

char *ll_largest_grads(double *largest, ll_tensor *params, int n) {
  return guarded([&] {
    at::NoGradGuard no;
    std::vector<Tensor> g;
    std::vector<int> of;
    for (int i = 0; i < n; i++) {
      largest[i] = -1;
      if (const auto &t = T(params[i]).grad(); t.defined()) g.push_back(t), of.push_back(i);
    }
    if (g.empty()) return;
    // One transfer for all of them.
    auto all = at::stack(at::_foreach_norm(g, std::numeric_limits<double>::infinity())).to(at::kCPU, at::kDouble);
    for (size_t i = 0; i < of.size(); i++) largest[of[i]] = all[i].item<double>();
  });
}

char *ll_clip_grads_there(ll_tensor *norm, ll_tensor *params, int n, double max_norm) {
  return guarded([&] {
    at::NoGradGuard no;
    auto g = grads_of(params, n);
    if (g.empty()) {
      *norm = box(at::zeros({}, T(params[0]).options().dtype(at::kFloat)));
      return;
    }
    auto total = at::linalg_vector_norm(at::stack(at::_foreach_norm(g)));
    if (max_norm > 0) at::_foreach_mul_(g, at::clamp_max(at::reciprocal(total + 1e-6) * max_norm, 1));
    *norm = box(total);
  });
}

char *ll_largest_grads_there(ll_tensor *largest, ll_tensor *params, int n) {
  return guarded([&] {
    at::NoGradGuard no;
    std::vector<Tensor> g, all;
    for (int i = 0; i < n; i++)
      if (const auto &t = T(params[i]).grad(); t.defined()) g.push_back(t);
    std::vector<Tensor> norms;
    if (!g.empty()) norms = at::_foreach_norm(g, std::numeric_limits<double>::infinity());
    size_t next = 0;
    for (int i = 0; i < n; i++)
      all.push_back(T(params[i]).grad().defined() ? norms[next++].to(at::kFloat)
                                                  : at::full({}, -1, T(params[i]).options().dtype(at::kFloat)));
    *largest = box(at::stack(all));
  });
}

}  // extern "C"
