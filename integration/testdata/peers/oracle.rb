# Writes random metrics with prometheus-client-mmap, from several processes, and what it exposes for them.
#
# oracle.rb OUT N: N directories OUT/0, OUT/1, ..., each beside OUT/0.prom, what is exposed for it.
require 'prometheus/client'
require 'prometheus/client/formats/text'

VALUES = ['', 'GET', 'a b', 'quo"te', 'back\\slash', "new\nline", '/path/{id}', 'ünï', '😀', 'a,b=c', 'x' * 300, 404, true].freeze
NUMBERS = [0, 1, 7, 3.25, -5, 1e9, 1e-9, -1e300].freeze
BUCKETS = [[1, 2, 3], [0.1, 0.5, 1.0, 5.0], [-1, 0, 1]].freeze
MODES = %i[min max livesum liveall all].freeze

# What all processes of one directory define.
def spec(rng)
  metrics = []
  rng.rand(5).times { |i| metrics << [:counter, :"c#{i}_total", [], rng.rand(4)] }
  MODES.each { |mode| metrics << [:gauge, :"g_#{mode}", [{}, mode], rng.rand(3)] if rng.rand < 0.7 }
  rng.rand(3).times { |i| metrics << [:histogram, :"h#{i}_seconds", [{}, BUCKETS.sample(random: rng)], rng.rand(2)] }
  rng.rand(3).times { |i| metrics << [:summary, :"s#{i}_bytes", [], rng.rand(2)] }
  metrics
end

def act(registry, metrics, rng, steps)
  mine = metrics.select { rng.rand < 0.85 }
  mine = mine.map { |type, name, arguments, labels| [type, registry.public_send(type, name, 'help', *arguments), labels] }
  steps.times do
    type, metric, labels = mine.sample(random: rng)
    break if metric.nil?

    set = (0...labels).to_h { |i| [:"l#{i}", VALUES.sample(random: rng)] }
    case type
    when :counter then metric.increment(set, [1, 1, 2, 0.1, 1e6, rng.rand].sample(random: rng))
    when :gauge then metric.set(set, (NUMBERS + [rng.rand]).sample(random: rng))
    else metric.observe(set, [rng.rand, rng.rand * 10, -0.5, 0, 1, 2, 1e9].sample(random: rng))
    end
  end
end

out, n = ARGV
n.to_i.times do |i|
  rng = Random.new(i)
  directory = File.join(out, i.to_s)
  Dir.mkdir(directory)
  metrics = spec(rng)
  (1 + rng.rand(4)).times do |k|
    steps = [0, 5, 30, 100, 300].sample(random: rng)
    pid = fork do
      Prometheus::Client.configuration.multiprocess_files_dir = directory
      act(Prometheus::Client::Registry.new, metrics, Random.new(1000 * i + k), steps)
      exit!(0)
    end
    Process.wait(pid)
  end
  File.write("#{directory}.prom", Prometheus::Client::Formats::Text.marshal_multiprocess(directory))
end
