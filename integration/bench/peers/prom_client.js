// The cluster aggregation of prom-client: the arguments are a directory that it has no use for, the kind of work, workers
// and series of each. Each worker's report is a copy of its own, as if it had just arrived.
'use strict';
const fs = require('fs');
const readline = require('readline');
const { AggregatorRegistry, Registry, Counter, Histogram } = require('prom-client');

const [kind, workers, series] = [process.argv[3], Number(process.argv[4]), Number(process.argv[5])];
const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

async function report() {
	const registry = new Registry();
	const options = { help: 'What is measured.', labelNames: ['code', 'route'], registers: [registry] };
	const metric = kind === 'histograms'
		? new Histogram({ name: 'bench_duration_seconds', buckets: bounds, ...options })
		: new Counter({ name: 'bench_requests_total', ...options });
	for (let i = 0; i < series; i++) {
		const labels = { code: `code${i % 10}`, route: `/route/${Math.floor(i / 10)}` };
		if (kind === 'histograms') {
			for (const v of [0.003, (i % 10) / 8, 12]) metric.observe(labels, v);
		} else {
			metric.inc(labels, kind === 'fractions' ? (i + 1) * 0.1 : 3 * i + 1);
		}
	}
	return JSON.stringify(await registry.getMetricsAsJSON());
}

async function main() {
	const text = await report();
	const reports = Array.from({ length: workers }, () => JSON.parse(text));
	const scrape = () => AggregatorRegistry.aggregate(reports).metrics();
	console.log('ready');
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const [command, argument] = line.split(' ');
		if (command === 'write') {
			fs.writeFileSync(argument, await scrape());
			console.log('{}');
			continue;
		}
		const wall = [];
		let size = 0;
		const before = process.cpuUsage();
		for (let i = 0; i < Number(argument); i++) {
			const start = process.hrtime.bigint();
			size = Buffer.byteLength(await scrape());
			wall.push(Number(process.hrtime.bigint() - start));
		}
		const cpu = process.cpuUsage(before);
		console.log(JSON.stringify({ wall, cpu: (cpu.user + cpu.system) * 1000, bytes: size }));
	}
}

main().catch(err => { console.error(err); process.exit(1); });
