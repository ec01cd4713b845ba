// Running an IntegerNet on whole tensors.
#include <memory>

#include "net_work.hpp"

namespace basic {
namespace {

class NetRun : NetWork {
  public:
    NetRun(const NetPlan& plan, const std::vector<NetInput>& inputs) : NetWork(plan) {
        const auto [height, width] = size_of(inputs);
        height_ = height, width_ = width;
        for (size_t k = 0; k < inputs.size(); ++k) rows_[k].plane = whole(plan.inputs[k], inputs[k]);
        for (const NetGroup& group : plan.groups) {
            NetWork::compute(group, 0, height_ * plan.layers[group.first].rate, results_of(group));
            for (const size_t tensor : group.finished) rows_[tensor].plane.reset(), wide_[tensor] = {};
        }
    }

    std::vector<NetOutput> outputs() const {
        std::vector<NetOutput> found;
        for (const OutputSpec& spec : plan_.outputs) {
            const size_t tensor = spec.parts[0].tensor;
            if (is_whole(spec))
                found.push_back(rows_[tensor].plane);
            else
                found.push_back(output(spec, 0, height_ * plan_.rates[tensor]));
        }
        return found;
    }

  private:
    std::shared_ptr<const Plane> whole(const InputSpec& spec, const NetInput& input) const {
        const auto* given = std::get_if<std::shared_ptr<const Plane>>(&input);
        if (given != nullptr && spec.plain()) return *given;
        auto plane = std::make_shared<Plane>(spec.channels, height_ * spec.rate, width_ * spec.rate);
        read(spec, input, *plane, 0);
        return plane;
    }

    // New planes for the results of a group's layers.
    std::vector<Plane*> results_of(const NetGroup& group) {
        std::vector<Plane*> results;
        for (size_t k = group.first; k < group.last; ++k) {
            const size_t tensor = plan_.inputs.size() + k, rate = plan_.rates[tensor];
            std::shared_ptr<Plane> plane;
            if (plan_.layers[k].wide)
                wide_[tensor] =
                    Memory(height_ * rate * width_ * rate * plan_.channels[tensor] * sizeof(int32_t));
            else
                plane = std::make_shared<Plane>(plan_.channels[tensor], height_ * rate, width_ * rate,
                                                unit_of(plan_.layers[k]));
            results.push_back(plane.get());
            rows_[tensor].plane = std::move(plane);
        }
        return results;
    }

    size_t height_ = 0;
};

}  // namespace

std::vector<NetOutput> IntegerNet::run(const std::vector<NetInput>& inputs) const {
    return NetRun(*plan_, inputs).outputs();
}

}  // namespace basic
