# prometheus-client-mmap: ARGV are a directory, the kind of work, workers and series of each.
require 'fileutils'
require 'json'

directory, kind, workers, series = ARGV[0], ARGV[1], ARGV[2].to_i, ARGV[3].to_i
ENV['prometheus_multiproc_dir'] = directory

require 'prometheus/client'
require 'prometheus/client/formats/text'

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10].freeze

Prometheus::Client.configuration.multiprocess_files_dir = directory

# A process of its own writes one worker's files, so that this one has read nothing yet; the other workers' are the same.
pid = fork do
  registry = Prometheus::Client.registry
  if kind == 'histograms'
    metric = registry.histogram(:bench_duration_seconds, 'What is measured.', {}, BOUNDS)
  else
    metric = registry.counter(:bench_requests_total, 'What is measured.')
  end
  series.times do |i|
    labels = { code: "code#{i % 10}", route: "/route/#{i / 10}" }
    if kind == 'histograms'
      [0.003, (i % 10) / 8.0, 12].each { |v| metric.observe(labels, v) }
    else
      metric.increment(labels, kind == 'fractions' ? (i + 1) * 0.1 : 3 * i + 1)
    end
  end
  exit!(0)
end
abort('the files could not be written') unless Process.wait2(pid)[1].success?
Dir.children(directory).each do |name|
  (1...workers).each { |n| FileUtils.cp(File.join(directory, name), File.join(directory, name.sub(/_[^_]*\.db\z/, "_#{10**7 + n}-0.db"))) }
end

def scrape(directory)
  Prometheus::Client::Formats::Text.marshal_multiprocess(directory)
end

$stdout.sync = true
puts 'ready'
$stdin.each_line do |line|
  command, argument = line.split
  if command == 'write'
    File.binwrite(argument, scrape(directory))
    puts '{}'
    next
  end
  wall = []
  size = 0
  before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID, :nanosecond)
  argument.to_i.times do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
    size = scrape(directory).bytesize
    wall << Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - start
  end
  cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID, :nanosecond) - before
  puts JSON.generate(wall: wall, cpu: cpu, bytes: size)
end
