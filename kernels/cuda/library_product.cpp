// library_multiply() by cuBLAS.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <limits>
#include <mutex>
#include <vector>

#include "kernels/cuda/errors.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/runtime.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check_library(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const ExitCode code = status == CUBLAS_STATUS_ALLOC_FAILED ? ExitCode::kMemory : ExitCode::kDevice;
  fail(code, what, "cuBLAS", "success", cublasGetStatusString(status));
}

// Of one device. Made when first needed and kept to the end of the program. The workspace is its own: the library would
// otherwise allocate one for each stream, also inside of a captured graph.
struct Library {
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
};

Library make_library() {
  Library library;
  check_library(cublasCreate(&library.handle), "library");
  library.workspace = allocate_on_device(kWorkspaceBytes);
  return library;
}

// Of the device that is selected on this thread.
const Library& library_of_device() {
  static std::mutex mutex;
  static std::vector<Library> libraries(static_cast<size_t>(device_count()));
  int device = 0;
  check(cudaGetDevice(&device), "device");
  const std::lock_guard lock(mutex);
  Library& library = libraries.at(static_cast<size_t>(device));
  if (library.handle == nullptr) library = make_library();
  return library;
}

int to_int(int64_t value) {
  XLSTM_ASSERT(value >= 0 && value <= std::numeric_limits<int>::max());
  return static_cast<int>(value);
}

// Row-major y = x · Wᵀ is column-major yᵀ = W · xᵀ, where the library sees W's memory as Wᵀ.
void multiply_now(const Grid& /*grid*/, const void* bytes, StreamHandle stream, bool /*early*/) {
  const auto& args = *static_cast<const LibraryProduct*>(bytes);
  const Library& library = library_of_device();
  // Naming a stream makes the library forget its workspace.
  check_library(cublasSetStream(library.handle, static_cast<cudaStream_t>(stream)), "library's stream");
  check_library(cublasSetWorkspace(library.handle, library.workspace, kWorkspaceBytes), "library's workspace");
  const float one = 1;
  const float kept = args.add != 0 ? 1 : 0;
  const cudaDataType_t type = args.bfloat16 != 0 ? CUDA_R_16BF : CUDA_R_32F;
  const cublasComputeType_t compute = args.bfloat16 != 0 ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_32F_PEDANTIC;
  check_library(cublasGemmEx(library.handle, CUBLAS_OP_T, CUBLAS_OP_N, to_int(args.out), to_int(args.rows),
                             to_int(args.in), &one, args.weight, type, to_int(args.weight_stride), args.x, type,
                             to_int(args.x_stride), &kept, args.y, args.bfloat16_y != 0 ? CUDA_R_16BF : CUDA_R_32F,
                             to_int(args.y_stride), compute, CUBLAS_GEMM_DEFAULT),
                "matrix product");
}

}  // namespace

void library_multiply(Queue& queue, const LibraryProduct& args) {
  if (args.rows == 0) return;
  queue.run(&multiply_now, Grid{}, args);
}

}  // namespace xlstm::cuda
