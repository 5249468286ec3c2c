// e^x with the same bits on every device, for draws that must not depend on where they are made.
#pragma once

#include <bit>
#include <cstdint>

namespace xlstm {

// For x ≤ 0, within two units in the last place of e^x; 0 below -745.2, NaN for NaN. Multiplications and additions
// alone: whoever compiles it keeps the compiler from joining them (-ffp-contract=off, nvcc --fmad=false).
//
// x = k·ln 2 + r with |r| ≤ ln 2 / 2, ln 2 in two parts so that k times the first one is exact (W. J. Cody and W.
// Waite, "Software Manual for the Elementary Functions", 1980); e^r by its Taylor series, whose remainder is below
// 2^-57.
[[nodiscard]] constexpr double exponential(double x) {
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 32 bits
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kLeast = -746;
  constexpr double kToInteger = 0x1.8p52;  // added, it leaves no bits behind the point
  constexpr double kInverseFactorials[] = {
      1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
      1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
  constexpr int kDegree = 13;
  if (!(x >= kLeast)) return x < kLeast ? 0 : x;
  const double k = (x * kLog2E + kToInteger) - kToInteger;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = kInverseFactorials[kDegree];
  for (int n = kDegree - 1; n >= 0; --n) sum = sum * r + kInverseFactorials[n];
  const auto power_of_two = [](int64_t exponent) {
    constexpr int64_t kBias = 1023;
    constexpr int kMantissaBits = 52;
    return std::bit_cast<double>((exponent + kBias) << kMantissaBits);
  };
  const auto exponent = static_cast<int64_t>(k);  // -1076 at least: by halves, so that neither power is too small
  const int64_t half = exponent / 2;
  return sum * power_of_two(half) * power_of_two(exponent - half);
}

}  // namespace xlstm
