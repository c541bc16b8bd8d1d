// SPDX-License-Identifier: Apache-2.0
#include "bench/chart.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

namespace headgate::bench {
namespace {

constexpr double kWidth = 420, kHeight = 300, kLeft = 64, kRight = 16, kTop = 36, kBottom = 48;  // of a panel, px
constexpr double kHead = 64, kFoot = 28;
constexpr size_t kPanelsInARow = 2;
// Told apart by those who see few colours, too (Okabe and Ito).
constexpr std::array<const char*, 4> kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7"};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

bool IsShown(const ChartPoint& point) { return point.x > 0 && point.y > 0 && point.low > 0 && point.high > 0; }

// From a value to a pixel.
struct Axis {
  double low = 0, high = 0;  // values
  double from = 0, to = 0;   // pixels
  double At(double value) const {
    const double share = high > low ? std::log(value / low) / std::log(high / low) : 0.5;
    return from + share * (to - from);
  }
};

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {
    for (const ChartPanel& panel : chart.panels) {
      for (const ChartLine& line : panel.lines) {
        if (std::find(names_.begin(), names_.end(), line.name) == names_.end()) names_.push_back(line.name);
      }
    }
  }

  std::string Draw() {
    const size_t columns = std::clamp<size_t>(chart_.panels.size(), 1, kPanelsInARow);
    const size_t rows = std::max<size_t>((chart_.panels.size() + columns - 1) / columns, 1);
    const double width = static_cast<double>(columns) * kWidth;
    const double height = kHead + static_cast<double>(rows) * kHeight + kFoot;
    absl::StrAppendFormat(&svg_,
                          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
                          "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
                          "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                          width, height, width, height);
    Text(kLeft, 22, "start", chart_.title, " font-size=\"15\" font-weight=\"bold\"");
    DrawLegend();
    for (size_t i = 0; i < chart_.panels.size(); ++i) {
      const size_t row = i / columns, column = i % columns;
      DrawPanel(chart_.panels[i], static_cast<double>(column) * kWidth,
                kHead + static_cast<double>(row) * kHeight);
    }
    Text(kLeft, height - 10, "start", chart_.note, " fill=\"#555\" font-size=\"11\"");
    svg_ += "</svg>\n";
    return std::move(svg_);
  }

 private:
  void Text(double x, double y, const char* anchor, const std::string& text, const std::string& more = "") {
    absl::StrAppendFormat(&svg_, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y, anchor,
                          more, Escape(text));
  }
  void Segment(double x1, double y1, double x2, double y2, const char* color) {
    absl::StrAppendFormat(&svg_, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1,
                          x2, y2, color);
  }
  const char* ColorOf(const std::string& name) const {
    const auto index = static_cast<size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
    return kColors[index % kColors.size()];
  }

  void DrawLegend() {
    constexpr double kY = 46, kLetter = 7;
    double x = kLeft;
    for (const std::string& name : names_) {
      absl::StrAppendFormat(&svg_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"4\" fill=\"%s\"/>\n", x,
                            kY - 6, ColorOf(name));
      Text(x + 24, kY, "start", name);
      x += 48 + kLetter * static_cast<double>(name.size());
    }
  }

  void DrawPanel(const ChartPanel& panel, double left, double top) {
    Axis x{
        .low = std::numeric_limits<double>::max(), .from = left + kLeft + 16, .to = left + kWidth - kRight - 16};
    Axis y{.low = std::numeric_limits<double>::max(), .from = top + kHeight - kBottom, .to = top + kTop};
    std::set<double> places;
    for (const ChartLine& line : panel.lines) {
      for (const ChartPoint& point : line.points) {
        if (!IsShown(point)) continue;
        x.low = std::min(x.low, point.x);
        x.high = std::max(x.high, point.x);
        y.low = std::min(y.low, point.low);
        y.high = std::max(y.high, point.high);
        places.insert(point.x);
      }
    }
    Text(left + kWidth / 2, top + 20, "middle", panel.title, " font-weight=\"bold\"");
    if (places.empty()) return;
    // To whole decades of half a step, so that lines do not touch the frame.
    y.low = std::pow(10, std::floor(2 * std::log10(y.low)) / 2);
    y.high = std::pow(10, std::ceil(2 * std::log10(y.high) + 0.01) / 2);
    DrawAxes(x, y, places, left);
    for (const ChartLine& line : panel.lines) DrawLine(line, x, y);
  }

  void DrawAxes(const Axis& x, const Axis& y, const std::set<double>& places, double left) {
    const double right = left + kWidth - kRight;
    const int last = static_cast<int>(std::floor(std::log10(y.high)));
    for (int decade = static_cast<int>(std::floor(std::log10(y.low))); decade <= last; ++decade) {
      for (const double digit : {1, 2, 5}) {
        const double value = digit * std::pow(10, decade);
        if (value < y.low * 0.999 || value > y.high * 1.001) continue;
        Segment(left + kLeft, y.At(value), right, y.At(value), "#ddd");
        Text(left + kLeft - 6, y.At(value) + 4, "end", ShortNumber(value));
      }
    }
    for (const double place : places) {
      Segment(x.At(place), y.from, x.At(place), y.from + 5, "#555");
      Text(x.At(place), y.from + 18, "middle", ShortNumber(place));
    }
    Segment(left + kLeft, y.from, right, y.from, "#555");
    Segment(left + kLeft, y.from, left + kLeft, y.to, "#555");
    Text((left + kLeft + right) / 2, y.from + 36, "middle", chart_.x_label);
    const double middle = (y.from + y.to) / 2;
    Text(left + 14, middle, "middle", chart_.y_label,
         absl::StrFormat(" transform=\"rotate(-90 %.1f %.1f)\"", left + 14, middle));
  }

  void DrawLine(const ChartLine& line, const Axis& x, const Axis& y) {
    const char* color = ColorOf(line.name);
    std::string places;
    for (const ChartPoint& point : line.points) {
      if (!IsShown(point)) continue;
      absl::StrAppendFormat(&places, " %.1f,%.1f", x.At(point.x), y.At(point.y));
      Segment(x.At(point.x), y.At(point.low), x.At(point.x), y.At(point.high), color);
      absl::StrAppendFormat(&svg_, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x.At(point.x),
                            y.At(point.y), color);
    }
    absl::StrAppendFormat(&svg_, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n",
                          places.empty() ? places : places.substr(1), color);
  }

  const Chart& chart_;
  std::vector<std::string> names_;
  std::string svg_;
};

}  // namespace

std::string ToSvg(const Chart& chart) { return Drawing(chart).Draw(); }

std::string ShortNumber(double value) {
  constexpr std::array<const char*, 4> kUnits = {"", "k", "M", "G"};
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); value /= 1000) ++unit;
  return absl::StrFormat("%.3g%s", value, kUnits[unit]);
}

}  // namespace headgate::bench
