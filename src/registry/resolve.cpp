#include <algorithm>
#include <cstdlib>

#include "src/registry/device_backend.h"
#include "src/registry/entries.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/cpu_features.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {
namespace {

struct FamilyNames {
  const char* option;  // configuration key that chooses it
  std::string prefix;  // of registry keys
  std::vector<std::string> known;
};

// The names of the contract. Known names that this executable has no kernel for are "not available", others a typo.
const FamilyNames& names_of(KernelFamily family) {
  static const std::vector<std::string> per_device = {"native", "cpu", "cuda", "metal"};
  static const FamilyNames ops = {"ops_backend", "", per_device};
  static const FamilyNames chunkwise = {
      "chunkwise_backend",
      "chunkwise--",
      {"ray_compiled_steps", "queued_compiled_steps", "native", "native_compiled", "cpu", "cuda", "metal"}};
  static const FamilyNames sequence = {"sequence_backend", "native_sequence__", per_device};
  static const FamilyNames step = {"step_backend", "", per_device};
  switch (family) {
    case KernelFamily::kOps: return ops;
    case KernelFamily::kChunkwise: return chunkwise;
    case KernelFamily::kSequence: return sequence;
    default: return step;
  }
}

// Keys of a family that run on a device kind, for error messages.
std::string runnable(KernelFamily family, const std::string& kind) {
  std::vector<std::string> keys;
  for (const KernelInfo& kernel : list_kernels()) {
    if (kernel.family == family && why_not(kernel, kind).empty()) keys.push_back(kernel.key);
  }
  return join(keys, ", ");
}

std::string resolve_key(KernelFamily family, const std::string& requested, const std::string& device) {
  const FamilyNames& names = names_of(family);
  const std::string kind = device_kind(device);
  std::string name = requested;
  if (!names.prefix.empty() && name.starts_with(names.prefix)) name.erase(0, names.prefix.size());
  name = unalias_backend(name);
  if (name == "auto") name = compiled_backend(kind);
  if (std::find(names.known.begin(), names.known.end(), name) == names.known.end()) {
    std::vector<std::string> choices = names.known;
    choices.insert(choices.begin(), "auto");
    const std::string near = nearest(name, choices);
    const std::string hint = near.empty() ? "" : cat("; did you mean ", near, "?");
    fail(ExitCode::kUsage, names.option, "configuration", cat("one of ", join(choices, ", ")), cat(requested, hint));
  }
  const std::string key = names.prefix + name;
  for (const KernelInfo& kernel : list_kernels()) {
    if (kernel.family == family && kernel.key == key && why_not(kernel, kind).empty()) return key;
  }
  fail(ExitCode::kDevice, names.option, cat("device ", device), cat("one of ", runnable(family, kind)),
       requested == "auto" ? cat("auto, and this build has no compiled kernel for ", kind) : requested);
}

bool has_compiled_kernels(const std::string& kind) {
  return std::any_of(registry_entries().begin(), registry_entries().end(), [&](const RegistryEntry& entry) {
    return entry.info.family == KernelFamily::kOps && entry.info.device == kind;
  });
}

// Of a device that cannot be used: its own reason, or that of the first of its kind where there is none at all.
std::string why_absent(const std::string& device) {
  std::string why;
  bool others = false;
  for (const DeviceInfo& info : list_devices()) {
    if (info.name == device) return info.details;
    if (info.kind != device_kind(device)) continue;
    others = others || info.available;
    if (why.empty()) why = info.details;
  }
  return others || why.empty() ? "a device that this machine does not have" : why;
}

void require_device(const std::string& device, const std::string& requested) {
  std::vector<std::string> present;
  for (const DeviceInfo& info : list_devices()) {
    if (info.available && info.name == device) return;
    if (info.available) present.push_back(info.name);
  }
  fail(ExitCode::kDevice, "device", "configuration", cat("one of ", join(present, ", ")),
       cat(requested, " (", why_absent(device), ")"));
}

// libtorch and the device's libraries read these by themselves: the first would move operations to the CPU unasked, the
// others give up precision.
void refuse_environment(const std::string& device) {
  struct Variable {
    const char* kind;
    const char* name;
  };
  const std::string kind = device_kind(device);
  for (const Variable& variable :
       {Variable{"mps", "PYTORCH_ENABLE_MPS_FALLBACK"}, Variable{"mps", "PYTORCH_MPS_FAST_MATH"},
        Variable{"cuda", "NVIDIA_TF32_OVERRIDE"}, Variable{"cuda", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"}}) {
    const char* const value = std::getenv(variable.name);
    if (kind != variable.kind || value == nullptr) continue;
    fail(ExitCode::kDevice, variable.name, "environment", cat("it unset on ", kind, ", where it changes results"),
         value);
  }
}

std::string resolve_dtype(const std::string& requested, const std::string& stored) {
  const bool to_integers = requested == "int8" || requested == "int4";
  if (to_integers && !stored.empty() && stored != requested) {
    fail(ExitCode::kDevice, "dtype", cat(stored, " checkpoint"),
         cat("auto, ", stored, " or a float type; ", requested, " can be made of a float checkpoint only"), requested);
  }
  if (requested != "auto") return requested;
  // Half of float32's bytes, which decoding reads for every token; all kernels sum its products in float32.
  return stored.empty() ? "bfloat16" : stored;
}

void check_scheduling(const RuntimeOpts& opts, const Resolution& r) {
  if (r.chunkwise == "chunkwise--ray_compiled_steps" && opts.ray_local_mode == 0) {
    fail(ExitCode::kDevice, "ray_local_mode", "configuration", "1, actors inside this process",
         "0, which needs a running Ray cluster and a worker process that joins it; this version has none");
  }
  if (device_kind(r.device) == "mps" && opts.streams > 1) {
    fail(ExitCode::kDevice, "streams", "device mps", "0 or 1: it has one stream", std::to_string(opts.streams));
  }
}

}  // namespace

const char* family_name(KernelFamily family) {
  switch (family) {
    case KernelFamily::kOps: return "ops";
    case KernelFamily::kChunkwise: return "chunkwise";
    case KernelFamily::kSequence: return "sequence";
    case KernelFamily::kStep: return "step";
    case KernelFamily::kAnalysis: return "analysis";
  }
  return "";
}

const std::vector<KernelInfo>& list_kernels() {
  static const std::vector<KernelInfo> kernels = [] {
    std::vector<KernelInfo> list;
    for (const RegistryEntry& entry : registry_entries()) list.push_back(entry.info);
    return list;
  }();
  return kernels;
}

std::string why_not(const KernelInfo& kernel, const std::string& kind) {
  if (kernel.device == "any" || kernel.device == kind) return "";
  return cat("runs on ", kernel.device, " only");
}

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
  for (const DeviceBackend& backend : device_backends()) {
    for (const BackendDevice& device : backend.devices) devices.push_back(device.info);
  }
  devices.push_back({"cpu", "cpu", true, cpu_name()});
  return devices;
}

std::string pick_device(const std::string& requested) {
  if (requested == "cuda") return "cuda:0";
  if (requested != "auto") return requested;
  for (const DeviceInfo& device : list_devices()) {
    if (device.available && has_compiled_kernels(device.kind)) return device.name;
  }
  return "cpu";
}

Resolution resolve(const RuntimeOpts& opts, const std::string& stored_dtype) {
  Resolution r;
  r.device = pick_device(opts.device);
  require_device(r.device, opts.device);
  refuse_environment(r.device);
  r.weight_dtype = resolve_dtype(opts.dtype, stored_dtype);
  r.ops = resolve_key(KernelFamily::kOps, opts.ops_backend, r.device);
  r.chunkwise = resolve_key(KernelFamily::kChunkwise, opts.chunkwise_backend, r.device);
  r.sequence = resolve_key(KernelFamily::kSequence, opts.sequence_backend, r.device);
  r.step = resolve_key(KernelFamily::kStep, opts.step_backend, r.device);
  check_scheduling(opts, r);
  r.threads = opts.threads > 0 ? static_cast<int>(opts.threads) : available_cores();
  r.workers = opts.workers > 0 ? static_cast<int>(opts.workers) : available_cores();
  return r;
}

}  // namespace xlstm
