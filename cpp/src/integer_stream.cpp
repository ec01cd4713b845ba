// Running an IntegerNet over the rows of its inputs, of which only those are kept that are needed again.
#include <algorithm>
#include <cstring>
#include <memory>

#include "net_work.hpp"

namespace basic {

class NetRows : NetWork {
  public:
    explicit NetRows(const NetPlan& plan)
        : NetWork(plan),
          planes_(rows_.size()),
          have_(rows_.size()),
          needed_(rows_.size()),
          leaves_(rows_.size()),
          done_(plan.groups.size()) {
        for (const OutputSpec& spec : plan.outputs)
            for (const PartSpec& part : spec.parts)
                if (part.step != 1 || part.tensor != spec.parts[0].tensor)
                    throw NetError(
                        "an output of some rows alone, or of several tensors, is not given by rows");
        for (const NetGroup& group : plan.groups) reaches_.push_back(reaches_of(group));
        for (size_t tensor = plan.inputs.size(); tensor < leaves_.size(); ++tensor)
            leaves_[tensor] = only_leaves(tensor);
    }

    std::vector<NetOutput> advance(const std::vector<NetInput>& inputs, bool last) {
        const auto [rows, columns] = size_of(inputs);
        if (over_) throw NetError("a network was given rows after the last ones");
        if (total_ > 0 && columns != width_)
            throw NetError("the inputs of a network have other columns than before");
        over_ = true;  // until all of this is done
        width_ = columns, total_ += rows, ended_ = last;
        for (size_t k = 0; k < inputs.size(); ++k) take(k, inputs[k]);
        for (size_t g = 0; g < plan_.groups.size(); ++g) compute(g);
        std::vector<NetOutput> outputs = found();
        for (const OutputSpec& spec : plan_.outputs) forget(spec.parts[0].tensor);
        over_ = last;
        return outputs;
    }

  private:
    // Rows of a tensor that a group reads for its row r: from r * stride - above to r * stride + below.
    struct Reach {
        size_t tensor, stride, above, below;
    };

    std::vector<Reach> reaches_of(const NetGroup& group) const {
        std::vector<Reach> reaches;
        const auto add = [&](size_t tensor, size_t stride, size_t above, size_t below) {
            if (tensor >= plan_.inputs.size() + group.first)
                return;  // of its own each reads its own position
            reaches.push_back({tensor, stride, above, std::max(below, stride - 1)});
        };
        const auto part = [](int rows) { return static_cast<size_t>(std::max(rows, 0)); };
        for (size_t k = group.first; k < group.last; ++k) {
            const NetLayer& layer = plan_.layers[k];
            const size_t squares =
                layer.winograd == nullptr ? 0 : 1;  // read all neighbours, of whatever weight
            for (const NetLayer::Tap& tap : layer.taps)
                add(tap.source, tap.stride, std::max(part(-tap.down), squares),
                    std::max(part(tap.down), squares));
            for (const SkipSpec& skip : layer.skips) add(skip.source, 1, 0, 0);
            if (layer.gate) add(*layer.gate, 1, 0, 0);
        }
        return reaches;
    }

    // Whether a tensor is an output that can be given away, as nothing reads it again.
    bool only_leaves(size_t tensor) const {
        size_t given = 0;
        for (const OutputSpec& spec : plan_.outputs)
            for (const PartSpec& part : spec.parts)
                given += part.tensor == tensor ? (is_whole(spec) ? 1 : 2) : 0;
        return given == 1 &&
               std::none_of(reaches_.begin(), reaches_.end(), [&](const std::vector<Reach>& reaches) {
                   return std::any_of(reaches.begin(), reaches.end(),
                                      [&](const Reach& reach) { return reach.tensor == tensor; });
               });
    }

    void take(size_t k, const NetInput& input) {
        const size_t rows = total_ * plan_.inputs[k].rate;
        Plane& plane = room(k, rows, 2);
        read(plan_.inputs[k], input, plane, have_[k] - rows_[k].first);
        add(k, rows);
    }

    // A group's results for the rows that are known by now.
    void compute(size_t g) {
        const NetGroup& group = plan_.groups[g];
        const size_t rate = plan_.layers[group.first].rate, last = known(g);
        if (last == done_[g]) return;
        std::vector<Plane*> results;
        for (size_t k = group.first; k < group.last; ++k) {
            const NetLayer& layer = plan_.layers[k];
            const size_t tensor = plan_.inputs.size() + k;
            if (layer.wide) wide_room(tensor, last);
            results.push_back(layer.wide ? nullptr : &room(tensor, last * layer.shuffle, unit_of(layer)));
        }
        NetWork::compute(group, done_[g], last, results);
        for (size_t k = group.first; k < group.last; ++k)
            add(plan_.inputs.size() + k, last * plan_.rates[plan_.inputs.size() + k] / rate);
        done_[g] = last;
        for (const size_t tensor : group.finished) forget(tensor);
    }

    // How many rows of a group can be computed.
    size_t known(size_t g) const {
        const NetGroup& group = plan_.groups[g];
        size_t rows = total_ * plan_.layers[group.first].rate;
        if (ended_) return rows;
        for (const Reach& reach : reaches_[g]) {
            const size_t have = have_[reach.tensor];
            rows = std::min(rows, have > reach.below ? (have - reach.below - 1) / reach.stride + 1 : 0);
        }
        return std::max(done_[g], group.in_squares ? rows / 2 * 2 : rows);
    }

    // The plane of a tensor, with room for its rows up to `last`.
    Plane& room(size_t tensor, size_t last, size_t unit) {
        std::shared_ptr<Plane>& plane = planes_[tensor];
        size_t& first = rows_[tensor].first;
        const size_t needed = needed_[tensor], kept = have_[tensor] - needed, wanted = last - needed;
        if (plane == nullptr || wanted > plane->height()) {
            const size_t columns = width_ * plan_.rates[tensor];
            if ((wanted + kept + 2 * kBorder) * (columns + 2 * kBorder) > UINT32_MAX)
                throw NetError("the rows of a network are too many at a time");
            // Where many rows stay, they are moved seldom.
            auto larger = std::make_shared<Plane>(plan_.channels[tensor], wanted + kept, columns, unit,
                                                  border_of(needed));
            if (kept > 0) std::memcpy(start(*larger, 0), start(*plane, needed - first), kept * bytes(*plane));
            plane = std::move(larger), first = needed;
            rows_[tensor].plane = plane;
        } else if (last - first > plane->height()) {
            std::memmove(start(*plane, 0), start(*plane, needed - first), kept * bytes(*plane));
            first = needed;
        }
        return *plane;
    }

    // Room for rows of a wide tensor, after those that are not given yet.
    void wide_room(size_t tensor, size_t last) {
        size_t& first = rows_[tensor].first;
        const size_t row = width_ * plan_.rates[tensor] * plan_.channels[tensor],
                     needed = given_ * plan_.rates[tensor];
        Memory larger((last - needed) * row * sizeof(int32_t));
        if (have_[tensor] > needed)
            std::memcpy(larger.as<int32_t>(), wide_[tensor].as<int32_t>() + (needed - first) * row,
                        (have_[tensor] - needed) * row * sizeof(int32_t));
        wide_[tensor] = std::move(larger), first = needed;
    }

    // Zeros are above the first row of a tensor, and come below its last one when that is there.
    static Border border_of(size_t first) { return first == 0 ? Border::all : Border::sides; }

    // A row of a plane with its border, and the bytes of it.
    static int16_t* start(Plane& plane, size_t row) { return plane.at(row, 0) - kBorder * plane.stride(); }
    static size_t bytes(const Plane& plane) { return plane.across() * plane.stride() * sizeof(int16_t); }

    // A tensor has its rows up to `last`, below which there are zeros at its end.
    void add(size_t tensor, size_t last) {
        have_[tensor] = last;
        if (ended_ && planes_[tensor] != nullptr)
            std::memset(start(*planes_[tensor], last - rows_[tensor].first), 0,
                        kBorder * bytes(*planes_[tensor]));
    }

    // The rows that are known of all outputs, and were not before.
    std::vector<NetOutput> found() {
        size_t known = total_;
        for (const OutputSpec& spec : plan_.outputs) {
            const size_t tensor = spec.parts[0].tensor;
            known = std::min(known, have_[tensor] / plan_.rates[tensor]);
        }
        std::vector<NetOutput> outputs;
        for (const OutputSpec& spec : plan_.outputs) {
            const size_t tensor = spec.parts[0].tensor, rate = plan_.rates[tensor];
            const size_t first = given_ * rate, last = known * rate;
            if (leaves_[tensor] && first < last && rows_[tensor].first == first &&
                planes_[tensor]->height() == last - first) {
                outputs.push_back(std::move(rows_[tensor].plane));
                planes_[tensor].reset(), rows_[tensor] = {};
            } else {
                outputs.push_back(output(spec, first, last));
            }
        }
        given_ = known;
        return outputs;
    }

    // Gives up rows of a tensor that nothing reads again, and a plane of which few rows stay.
    void forget(size_t tensor) {
        size_t& needed = needed_[tensor];
        needed = have_[tensor];
        for (size_t g = 0; g < reaches_.size(); ++g)
            for (const Reach& reach : reaches_[g]) {
                const size_t next = done_[g] * reach.stride;
                if (reach.tensor == tensor) needed = std::min(needed, next - std::min(next, reach.above));
            }
        for (const OutputSpec& spec : plan_.outputs)
            if (spec.parts[0].tensor == tensor) needed = std::min(needed, given_ * plan_.rates[tensor]);
        std::shared_ptr<Plane>& plane = planes_[tensor];
        const size_t kept = have_[tensor] - needed;
        if (plane == nullptr || 2 * kept > plane->height()) return;
        std::shared_ptr<Plane> smaller;
        if (kept > 0) {
            smaller = std::make_shared<Plane>(plane->channels(), kept, plane->width(), plane->stride(),
                                              border_of(needed));
            std::memcpy(start(*smaller, 0), start(*plane, needed - rows_[tensor].first),
                        kept * bytes(*plane));
        }
        plane = std::move(smaller);
        rows_[tensor] = {plane, needed};
    }

    std::vector<std::shared_ptr<Plane>> planes_;  // those of `rows_`
    std::vector<size_t> have_;                    // rows of each tensor that there were
    std::vector<size_t> needed_;                  // the first of them that is read again
    std::vector<bool> leaves_;                    // tensors whose planes may be given away
    std::vector<size_t> done_;                    // rows of each group
    std::vector<std::vector<Reach>> reaches_;     // of each group
    size_t total_ = 0;                            // rows of the coarsest input
    size_t given_ = 0;                            // those of them that outputs were given for
    bool ended_ = false, over_ = false;
};

NetStream::NetStream(const IntegerNet& net) : rows_(std::make_unique<NetRows>(*net.plan_)) {}

NetStream::~NetStream() = default;

std::vector<NetOutput> NetStream::advance(const std::vector<NetInput>& inputs, bool last) {
    return rows_->advance(inputs, last);
}

}  // namespace basic
