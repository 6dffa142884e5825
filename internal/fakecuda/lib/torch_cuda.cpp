// Takes the place of libtorch_cuda.so: devices whose memory is that of the host, and
// whose kernels are those of the CPU. See fakecuda.go.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;

constexpr int kMost = 8;

// What a test and this process share, as it lies in the file: see State in
// fakecuda.go.
struct State {
  int64_t devices, memory;             // memory of each in bytes
  int64_t lose;                        // launches until a device is lost; 0: never
  std::atomic<int64_t> lost;           // 1: it is
  std::atomic<int64_t> launches;       // of kernels
  std::atomic<int64_t> waits;          // of the host for a device
  std::atomic<int64_t> uploads;        // from pinned memory
  std::atomic<int64_t> used[kMost], peak[kMost];
};

State &state() {
  static State *s = [] {
    static State none{1, int64_t(1) << 40};
    const char *path = getenv("LORALAB_FAKE_CUDA");
    if (!path) return &none;
    int fd = open(path, O_RDWR);
    void *p = fd < 0 ? MAP_FAILED : mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
      perror(path);
      abort();
    }
    return static_cast<State *>(p);
  }();
  return *s;
}

void check_lost() {
  // As c10::cuda says it of an error that stays until the process ends.
  TORCH_CHECK(!state().lost,
              "CUDA error: an illegal memory access was encountered\n"
              "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.");
}

void launched() {
  check_lost();
  if (++state().launches == state().lose) state().lost = 1;
}

thread_local DeviceIndex current = 0;

struct On {
  explicit On(DeviceIndex d) : before(current) { current = d; }
  ~On() { current = before; }
  DeviceIndex before;
};

// ---- memory ----

void take(DeviceIndex d, int64_t n) {
  auto &s = state();
  check_lost();
  if (s.used[d] + n > s.memory) {
    auto gib = [](int64_t b) { return c10::str(std::round(b / 1073741824. * 100) / 100, " GiB"); };
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", gib(n), ". GPU ", int(d), " has a total capacity of ",
                     gib(s.memory), " of which ", gib(s.memory - s.used[d]), " is free. Of the allocated memory ", gib(s.used[d]),
                     " is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
                     "setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.");
  }
  const int64_t now = s.used[d] += n;
  if (now > s.peak[d]) s.peak[d] = now;
}

// A block of a device: its own, or the storage of a result.
struct Block {
  DeviceIndex device;
  int64_t bytes;
  void *own;
  c10::Storage result;
};

void give(void *p) {
  auto *b = static_cast<Block *>(p);
  state().used[b->device] -= b->bytes;
  free(b->own);
  delete b;
}

struct Memory final : c10::DeviceAllocator {
  at::DataPtr allocate(size_t n) override {
    take(current, n);
    void *p = n ? aligned_alloc(64, (n + 63) / 64 * 64) : nullptr;
    return {p, new Block{current, int64_t(n), p, {}}, &give, Device(at::kCUDA, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *to, const void *from, size_t n) const override { memcpy(to, from, n); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(DeviceIndex d) override {
    c10::CachingDeviceAllocator::DeviceStats s;
    s.allocated_bytes[0].current = state().used[d], s.allocated_bytes[0].peak = state().peak[d];
    return s;
  }
  void resetAccumulatedStats(DeviceIndex) override {}
  void resetPeakStats(DeviceIndex d) override { state().peak[d] = state().used[d].load(); }
  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex d) override {
    return {state().memory - state().used[d], state().memory};
  }
};
Memory memory;
const bool registered = (c10::SetAllocator(at::kCUDA, &memory), true);

struct Pinned final : c10::Allocator {
  static inline std::mutex mu;
  static inline std::set<const void *> blocks;
  at::DataPtr allocate(size_t n) override {
    void *p = aligned_alloc(64, (n + 64) / 64 * 64);
    std::lock_guard<std::mutex> lock(mu);
    blocks.insert(p);
    return {p, p, [](void *p) {
              std::lock_guard<std::mutex> lock(mu);
              blocks.erase(p);
              free(p);
            }, at::kCPU};
  }
  void copy_data(void *to, const void *from, size_t n) const override { memcpy(to, from, n); }
  static bool has(const void *p) {
    std::lock_guard<std::mutex> lock(mu);
    return blocks.count(p) > 0;
  }
};
Pinned pinned;

// ---- devices, streams, generators ----

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return at::kCUDA; }
  Device exchangeDevice(Device d) const override {
    Device before(at::kCUDA, current);
    current = d.index();
    return before;
  }
  Device getDevice() const override { return Device(at::kCUDA, current); }
  void setDevice(Device d) const override { current = d.index(); }
  void uncheckedSetDevice(Device d) const noexcept override { current = d.index(); }
  c10::Stream getStream(Device d) const override { return c10::Stream(c10::Stream::UNSAFE, d, stream); }
  c10::Stream getDefaultStream(Device d) const override { return c10::Stream(c10::Stream::DEFAULT, d); }
  c10::Stream getStreamFromGlobalPool(Device d, bool) const override { return c10::Stream(c10::Stream::UNSAFE, d, 1); }
  c10::Stream getNewStream(Device d, int) const override { return c10::Stream(c10::Stream::UNSAFE, d, 2); }
  c10::Stream exchangeStream(c10::Stream s) const override {
    c10::Stream before(c10::Stream::UNSAFE, s.device(), stream);
    stream = s.id();
    return before;
  }
  void record(void **, const c10::Stream &, const DeviceIndex, const c10::EventFlag) const override { check_lost(); }
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  void destroyEvent(void *, const DeviceIndex) const noexcept override {}
  DeviceIndex deviceCount() const noexcept override { return static_cast<DeviceIndex>(state().devices); }
  bool queryStream(const c10::Stream &) const override { return true; }
  void synchronizeStream(const c10::Stream &) const override { state().waits++; }
  void synchronizeEvent(void *) const override { check_lost(); }
  void synchronizeDevice(const DeviceIndex) const override { state().waits++; }
  void recordDataPtrOnStream(const c10::DataPtr &, const c10::Stream &) const override {}
  static thread_local c10::StreamId stream;
};
thread_local c10::StreamId Guard::stream = 0;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

at::Generator &generator(DeviceIndex d) {
  static std::vector<at::Generator> all = [] {
    std::vector<at::Generator> v;
    for (int i = 0; i < kMost; i++) v.push_back(at::detail::createCPUGenerator());
    return v;
  }();
  return all.at(d < 0 ? current : d);
}

struct FakeHooks : at::CUDAHooksInterface {
  explicit FakeHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return state().devices > 0; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return state().devices > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return static_cast<DeviceIndex>(state().devices); }
  int getNumGPUs() const override { return static_cast<int>(state().devices); }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  bool isPinnedPtr(const void *p) const override { return Pinned::has(p); }
  c10::Allocator *getPinnedMemoryAllocator() const override { return &pinned; }
  c10::Allocator *getCUDADeviceAllocator() const override { return &memory; }
  const at::Generator &getDefaultGenerator(DeviceIndex d) const override { return generator(d); }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  void deviceSynchronize(DeviceIndex) const override { state().waits++; }
};

// ---- kernels ----

// t as a tensor of the CPU in the same memory.
Tensor host(const Tensor &t) {
  if (!t.defined() || !t.is_cuda()) return t;
  c10::Storage s(c10::Storage::use_byte_size_t(), t.storage().nbytes(), at::DataPtr(t.storage().mutable_data(), at::kCPU),
                 c10::GetAllocator(at::kCPU), true);
  Tensor c = at::detail::make_tensor<c10::TensorImpl>(std::move(s), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  c.unsafeGetTensorImpl()->set_storage_offset(t.storage_offset());
  c.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides());
  if (t.is_conj()) c._set_conj(true);
  if (t.is_neg()) c._set_neg(true);
  return c;
}

Tensor shaped(c10::Storage s, const Tensor &c) {
  Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(s), c10::DispatchKeySet(c10::DispatchKey::CUDA), c.dtype());
  t.unsafeGetTensorImpl()->set_storage_offset(c.storage_offset());
  t.unsafeGetTensorImpl()->set_sizes_and_strides(c.sizes(), c.strides());
  if (c.is_conj()) t._set_conj(true);
  if (c.is_neg()) t._set_neg(true);
  return t;
}

// A storage of device d that holds what a result of the CPU holds.
c10::Storage moved(const c10::Storage &s, DeviceIndex d) {
  take(d, s.nbytes());
  auto *b = new Block{d, int64_t(s.nbytes()), nullptr, s};
  return {c10::Storage::use_byte_size_t(), s.nbytes(), at::DataPtr(s.mutable_data(), b, &give, Device(at::kCUDA, d)), &memory, true};
}

struct Call {
  std::vector<std::pair<Tensor, Tensor>> known;  // on the device, and as the CPU sees it
  DeviceIndex device = -1;
  bool fromHost = false;

  Tensor in(const Tensor &t) {
    if (!t.defined()) return t;
    if (!t.is_cuda()) {
      fromHost = fromHost || t.dim() > 0;
      return t;
    }
    TORCH_CHECK(device < 0 || device == t.get_device(), "Expected all tensors to be on the same device, but found at least two devices, cuda:",
                int(device), " and cuda:", int(t.get_device()), "!");
    device = static_cast<DeviceIndex>(t.get_device());
    known.emplace_back(t, host(t));
    return known.back().second;
  }

  Tensor out(const Tensor &c) {
    if (!c.defined()) return c;
    for (auto &[t, h] : known)
      if (h.storage().data() == c.storage().data() && c.storage().nbytes() > 0)
        return h.is_same(c) ? t : shaped(t.storage(), c);
    return shaped(moved(c.storage(), device < 0 ? current : device), c);
  }

  // Those that were given other memory or another shape.
  void resized() {
    for (auto &[t, h] : known) {
      auto *impl = t.unsafeGetTensorImpl();
      if (h.storage().data() != t.storage().data() && h.storage().nbytes() > 0)
        impl->set_storage_keep_dtype(moved(h.storage(), static_cast<DeviceIndex>(t.get_device())));
      if (h.sizes() != t.sizes() || h.strides() != t.strides()) impl->set_sizes_and_strides(h.sizes(), h.strides());
    }
  }
};

// Operations for whose result the host waits.
bool waits(const std::string &name) {
  static const std::set<std::string> names{"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal",
                                           "aten::_unique2", "aten::linalg_eigh", "aten::_linalg_svd", "aten::linalg_qr",
                                           "aten::_linalg_check_errors"};
  return names.count(name) > 0;
}

// Refuses what a GPU has no deterministic kernel for, as far as an engine may call it;
// `torch.use_deterministic_algorithms` has the list.
void refuse(const std::string &name, const torch::jit::IValue *arguments) {
  if (!at::globalContext().deterministicAlgorithms()) return;
  static const std::set<std::string> always{"aten::upsample_bilinear2d_backward", "aten::upsample_bicubic2d_backward",
                                            "aten::reflection_pad2d_backward", "aten::_adaptive_avg_pool2d_backward"};
  if (always.count(name) || (name == "aten::cumsum" && arguments[0].toTensor().is_floating_point()) ||
      (name == "aten::nll_loss2d_forward" && arguments[3].toInt() != at::Reduction::None))
    at::globalContext().alertNotDeterministic(name);
}

void kernel(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  launched();
  const auto &schema = op.schema();
  if (waits(schema.name())) state().waits++;
  Call call;
  const auto n = schema.arguments().size(), begin = stack->size() - n;
  refuse(schema.name(), stack->data() + begin);
  for (size_t i = begin; i < stack->size(); i++) {
    auto &v = (*stack)[i];
    if (v.isTensor()) {
      v = call.in(v.toTensor());
    } else if (v.isTensorList()) {
      std::vector<Tensor> all;
      for (const Tensor &t : v.toTensorVector()) all.push_back(call.in(t));
      v = c10::List<Tensor>(all);
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> all;
      for (std::optional<Tensor> t : v.toOptionalTensorVector()) all.push_back(t ? std::optional<Tensor>(call.in(*t)) : t);
      v = all;
    } else if (v.isDevice()) {
      if (v.toDevice().is_cuda()) call.device = v.toDevice().index();
      v = Device(at::kCPU);
    }
  }
  TORCH_CHECK(!(call.fromHost && call.device >= 0),
              "Expected all tensors to be on the same device, but found at least two devices, cuda:", int(call.device), " and cpu! (of ",
              schema.name(), ")");
  const bool draws = op.hasTag(at::Tag::nondeterministic_seeded);
  Tensor before;
  auto cpu = at::detail::getDefaultCPUGenerator();
  auto &own = generator(call.device);
  if (draws) before = cpu.get_state(), cpu.set_state(own.get_state());
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  if (draws) own.set_state(cpu.get_state()), cpu.set_state(before);
  call.resized();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++) {
    auto &v = (*stack)[i];
    if (v.isTensor()) {
      v = call.out(v.toTensor());
    } else if (v.isTensorList()) {
      std::vector<Tensor> all;
      for (const Tensor &t : v.toTensorVector()) all.push_back(call.out(t));
      v = c10::List<Tensor>(all);
    }
  }
}

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<Device> device,
             std::optional<bool>, std::optional<at::MemoryFormat> format) {
  On on(device && device->has_index() ? device->index() : current);
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   at::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<Device> device, std::optional<bool>) {
  On on(device && device->has_index() ? device->index() : current);
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
                                           c10::DispatchKeySet(c10::DispatchKey::CUDA), at::dtype_or_default(dtype));
}

Tensor &copy_(Tensor &to, const Tensor &from, bool non_blocking) {
  launched();
  if (to.is_cuda() != from.is_cuda()) {
    const bool fast = non_blocking && Pinned::has((to.is_cuda() ? from : to).storage().data());
    if (!fast)
      state().waits++;
    else if (to.is_cuda())
      state().uploads++;
  }
  host(to).copy_(host(from));
  return to;
}

Tensor copy_from(const Tensor &from, const Tensor &to, bool non_blocking) {
  Tensor t = to;
  return copy_(t, from, non_blocking);
}

void record_stream(Tensor &, c10::Stream) {}

void choose(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  TORCH_CHECK(at::globalContext().userEnabledMathSDP(), "No available kernel. Aborting execution.");
  torch::jit::drop(*stack, op.schema().arguments().size());
  torch::jit::push(*stack, int64_t(0));
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&kernel>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("record_stream", &record_stream);
  m.impl("as_strided", [](const Tensor &t, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
    return at::native::as_strided_tensorimpl(t, size, stride, offset);
  });
  m.impl("view", [](const Tensor &t, at::IntArrayRef size) { return at::native::view(t, size); });
  m.impl("_reshape_alias", [](const Tensor &t, at::IntArrayRef size, at::IntArrayRef stride) { return at::native::_reshape_alias(t, size, stride); });
  m.impl("_fused_sdp_choice", torch::CppFunction::makeFromBoxedFunction<&choose>());
}

}  // namespace

namespace at {
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, ::FakeHooks)
}
