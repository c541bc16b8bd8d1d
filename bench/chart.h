// SPDX-License-Identifier: Apache-2.0
//
// Charts of measured values, as SVG: panels beside and below one another, both axes logarithmic.
#pragma once

#include <string>
#include <vector>

namespace headgate::bench {

struct ChartPoint {
  double x = 0;
  double y = 0, low = 0, high = 0;  // the median, and the spread around it
};

struct ChartLine {
  std::string name;  // lines of one name look alike in all panels
  std::vector<ChartPoint> points;
};

struct ChartPanel {
  std::string title;
  std::vector<ChartLine> lines;
};

struct Chart {
  std::string title, x_label, y_label;
  std::string note;  // below all
  std::vector<ChartPanel> panels;
};

// Points of which a value is not above 0 are left out.
std::string ToSvg(const Chart& chart);

// "750", "1.5k", "40M".
std::string ShortNumber(double value);

}  // namespace headgate::bench
