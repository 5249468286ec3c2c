// Which profile is picked for a device and a scheduler.
#include "src/config/profile.h"

#include <gtest/gtest.h>

#include "tests/config/config_tree.h"
#include "tests/support/temp_dir.h"
#include "xlstm/config/backend_names.h"

namespace xlstm {
namespace {

using std::chrono::seconds;
using test::TempDir;

constexpr const char* kRay = "ray_compiled_steps";
constexpr const char* kQueued = "queued_compiled_steps";

// The name of the file picked among `names`, which are older the later they come; "" if none is.
std::string pick(const std::vector<std::string>& names, const std::string& device, const std::string& backend) {
  const TempDir dir;
  int age = 0;
  for (const std::string& name : names) test::set_age(dir.file(name, "{}"), seconds(100 * ++age));
  const auto picked = pick_profile(dir.path(), device, backend);
  return picked ? picked->path.filename().string() : "";
}

TEST(PickProfile, TakesAFileOfTheScheduler) {
  EXPECT_EQ(pick({"golden_ray.json"}, "cpu", kRay), "golden_ray.json");
  EXPECT_EQ(pick({"golden_ray.json", "golden_queued.json"}, "cpu", kQueued), "golden_queued.json");
  EXPECT_EQ(pick({"golden_ray.json"}, "cpu", kQueued), "");
  EXPECT_EQ(pick({"golden_ray.json", "golden_queued.json"}, "cpu", "native"), "");
  EXPECT_EQ(pick({"golden_ray.json", "native.json"}, "cpu", "native_compiled"), "");
}

TEST(PickProfile, SplitsNamesAtUnderscoreHyphenAndDot) {
  EXPECT_EQ(pick({"a-ray.json"}, "cpu", kRay), "a-ray.json");
  EXPECT_EQ(pick({"a.ray.b.json"}, "cpu", kRay), "a.ray.b.json");
  EXPECT_EQ(pick({"ray.json"}, "cpu", kRay), "ray.json");
  EXPECT_EQ(pick({"experiment_ray16k.json", "array.json", "xray_y.json", "RAY.json"}, "cpu", kRay), "");
}

TEST(PickProfile, NeverTakesAFileOfAnotherDevice) {
  EXPECT_EQ(pick({"ray_mps.json", "ray-cuda.json"}, "cpu", kRay), "");
  EXPECT_EQ(pick({"ray_mps_cpu.json"}, "cpu", kRay), "");
  EXPECT_EQ(pick({"ray_mps.json", "ray_cuda.json", "ray_cpu.json"}, "cuda", kRay), "ray_cuda.json");
}

TEST(PickProfile, PrefersNamedDeviceThenNewestThenGreatestName) {
  EXPECT_EQ(pick({"ray_new.json", "ray_cpu_old.json"}, "cpu", kRay), "ray_cpu_old.json");
  EXPECT_EQ(pick({"a_ray.json", "b_ray.json"}, "cpu", kRay), "a_ray.json");
  EXPECT_EQ(pick({"b_ray.json", "a_ray.json"}, "cpu", kRay), "b_ray.json");
  EXPECT_EQ(pick({"cpu_a_ray.json", "cpu_b_ray.json", "z_ray.json"}, "cpu", kRay), "cpu_a_ray.json");

  const TempDir dir;
  const auto time = std::filesystem::file_time_type::clock::now() - seconds(50);
  for (const char* name : {"b_ray.json", "c_ray.json", "a_ray.json"}) {
    std::filesystem::last_write_time(dir.file(name, "{}"), time);
  }
  EXPECT_EQ(pick_profile(dir.path(), "cpu", kRay)->path.filename(), "c_ray.json");
}

TEST(PickProfile, LooksAtVisibleJsonFilesOnly) {
  EXPECT_EQ(pick({"ray.txt", "._ray.json", ".ray.json", "ray.json.bak"}, "cpu", kRay), "");
  const TempDir dir;
  std::filesystem::create_directory(dir / "ray.json");
  EXPECT_FALSE(pick_profile(dir.path(), "cpu", kRay));
  EXPECT_FALSE(pick_profile("", "cpu", kRay));
  EXPECT_FALSE(pick_profile("/nowhere", "cpu", kRay));
}

TEST(PickProfile, AmongTheShippedFilesTakesTheDevicesOwn) {
  const std::filesystem::path configs = std::filesystem::path(XLSTM_SOURCE_DIR) / "configs";
  for (const std::string device : {"cpu", "cuda", "mps"}) {
    EXPECT_EQ(pick_profile(configs, device, kRay)->path.filename(), "golden_ray_" + device + ".json");
    EXPECT_EQ(pick_profile(configs, device, kQueued)->path.filename(), "golden_queued_" + device + ".json");
  }
}

TEST(Names, AreShortened) {
  EXPECT_EQ(device_kind("cuda:1"), "cuda");
  EXPECT_EQ(device_kind("cpu"), "cpu");
  EXPECT_EQ(short_backend("chunkwise--ray_compiled_steps"), kRay);
  EXPECT_EQ(short_backend("native"), "native");
}

TEST(Names, OfOneBackendAreOne) {
  for (const char* name : {"auto", "cpu", "native_compiled", "chunkwise--native_compiled_xl"}) {
    EXPECT_EQ(canonical_backend(name, "cpu"), "cpu") << name;
  }
  EXPECT_EQ(canonical_backend("native_compiled", "mps"), canonical_backend("metal_custbw", "mps"));
  EXPECT_EQ(canonical_backend("native_stablef_x", "cpu"), "native");
  EXPECT_EQ(canonical_backend("ray", "cpu"), canonical_backend("chunkwise--ray_compiled_steps", "cpu"));
  EXPECT_NE(canonical_backend("queued", "cpu"), canonical_backend("ray", "cpu"));
}

}  // namespace
}  // namespace xlstm
