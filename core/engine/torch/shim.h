// What gotch lacks, in plain C. Every function that can fail returns NULL or
// an error text that the caller frees; results go to out parameters. A tensor
// is a torch::Tensor*, as in gotch, so that handles pass freely between both.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *ll_tensor;

// Facts.
const char *ll_version(void);
const char *ll_cpu_capability(void);
int ll_fast_bf16(void);

// Threads.
char *ll_set_threads(int intra);
int ll_threads(void);

// Lets the allocator keep freed host memory for the next step.
void ll_keep_freed_memory(void);

// CUDA, loaded while running.
char *ll_load_cuda(const char *path);
int ll_cuda_devices(void);
// The newest CUDA that the driver can do, as 1000·major + 10·minor; 0 if there is
// none. What the driver says of a device: 0 if it says nothing.
int ll_cuda_driver(void);
int ll_cuda_facts(int index, char *name, int n, int64_t *memory, int *capability);
// Makes a device that of the calling thread, and sets what holds for all devices.
char *ll_cuda_begin(int index);
char *ll_set_deterministic(int on);
// Bytes of tensors on a device now and at most since the last call with reset, and
// what the driver has left and has in all.
char *ll_cuda_memory(int index, int reset, int64_t *now, int64_t *peak, int64_t *left, int64_t *total);
// Copies host memory to a device and does not wait for it: data may be overwritten
// at once.
char *ll_upload(ll_tensor *out, const void *data, const int64_t *dims, int ndims, int kind, int device);
// Begins to copy a float32 vector from its device; ll_later_read waits for it and
// frees later.
char *ll_later(void **later, ll_tensor t);
char *ll_later_read(double *out, void *later);

// Whether CUDA may round what it multiplies to TF32, in matrix products (bit 0)
// and in convolutions (bit 1). Of the whole process.
char *ll_set_tf32(int on);
int ll_tf32(void);

// Random numbers of a device (-1: CPU).
char *ll_seed(int device, uint64_t seed);
char *ll_rng_get(int device, ll_tensor *out);
char *ll_rng_set(int device, ll_tensor state);

// Bytes held by tensors whose memory was taken on this thread since the call
// of ll_count_bytes.
void ll_count_bytes(void);
int64_t ll_live_bytes(void);

// A tensor over memory that is not ours to free. device -1.
char *ll_from_blob(ll_tensor *out, void *data, const int64_t *dims, int ndims, int kind);

// Autograd.
char *ll_backward(ll_tensor loss);
char *ll_grad(ll_tensor *out, ll_tensor t);  // NULL tensor where there is none
char *ll_drop_grads(ll_tensor *ts, int n);
char *ll_requires_grad(ll_tensor t, int on);
char *ll_grads_of(ll_tensor *out, ll_tensor y, ll_tensor gy, ll_tensor *xs, int n);

// Ops.
char *ll_gelu(ll_tensor *out, ll_tensor x);
char *ll_norm(ll_tensor *out, ll_tensor x, const int64_t *dims, int n, int keep);
char *ll_einsum(ll_tensor *out, const char *equation, ll_tensor *ts, int n);
char *ll_attention(ll_tensor *out, ll_tensor q, ll_tensor k, ll_tensor v, int form);
char *ll_low_rank_linear(ll_tensor *out, ll_tensor x, ll_tensor w, ll_tensor bias, int parts,
                         const int64_t *offsets, ll_tensor *as, ll_tensor *hs, ll_tensor *bs,
                         const double *scales);
char *ll_solve(ll_tensor *out, ll_tensor a, ll_tensor b);
char *ll_svd(ll_tensor *u, ll_tensor *s, ll_tensor *vt, ll_tensor x);
char *ll_qr(ll_tensor *q, ll_tensor *r, ll_tensor x);
char *ll_ifft2_real(ll_tensor *out, ll_tensor x);
char *ll_topk_mask(ll_tensor *out, ll_tensor x, int64_t k, int64_t dim);
char *ll_argmax(ll_tensor *out, ll_tensor x, int64_t dim);
char *ll_copy(ll_tensor dst, ll_tensor src);
char *ll_item(double *out, ll_tensor t);

// Optimiser. Where a norm is given, a scalar on the device, nothing moves unless it is
// finite.
char *ll_adam(ll_tensor *params, ll_tensor *ms, ll_tensor *vs, ll_tensor *steps, int n, double lr,
              double beta1, double beta2, double weight_decay, double eps, int decoupled, ll_tensor norm);
char *ll_sgd(ll_tensor *params, ll_tensor *momenta, int n, double lr, double momentum, double weight_decay,
             int nesterov, ll_tensor norm);
char *ll_lerp(ll_tensor *to, ll_tensor *from, int n, double by);
char *ll_clip_grads(double *norm, ll_tensor *params, int n, double max_norm);
char *ll_largest_grads(double *largest, ll_tensor *params, int n);
// The same without waiting for the device: norm a scalar, largest [n].
char *ll_clip_grads_there(ll_tensor *norm, ll_tensor *params, int n, double max_norm);
char *ll_largest_grads_there(ll_tensor *largest, ll_tensor *params, int n);

#ifdef __cplusplus
}
#endif
