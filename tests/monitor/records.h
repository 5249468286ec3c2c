// Records and looks for tests.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "xlstm/monitor/reader.h"

namespace xlstm::test {

inline RunRecord record(int64_t pid, const std::string& model = "tales") {
  RunRecord r;
  r.pid = pid;
  r.start_id = pid * 10;
  r.started = 1'700'000'000;
  r.written = 1'700'000'100;
  r.version = "0.1.0";
  r.command = "generate";
  r.model = model;
  r.device = "cpu";
  r.dtype = "bfloat16";
  r.kernel = "chunkwise--ray_compiled_steps";
  r.profile = "golden_ray_cpu";
  r.phase = "decode";
  r.phase_s = 10;
  r.done = 64;
  r.total = 128;
  r.prompt_tokens = 512;
  r.decoded_tokens = 64;
  r.tok_s = 101.5;
  r.tok_s_phase = 99.25;
  r.rss_mb = 1500;
  r.anon_mb = 1000;
  r.soft_mb = 8000;
  r.hard_mb = 9000;
  return r;
}

inline Look look_of(std::vector<RunRecord> records, double time = 1'700'000'100) {
  Look look;
  look.time = time;
  for (RunRecord& r : records) look.processes.push_back({std::move(r), 0});
  return look;
}

}  // namespace xlstm::test
