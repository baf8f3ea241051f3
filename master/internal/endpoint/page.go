package endpoint

import (
	"html/template"
	"io"
	"time"
)

// execute writes the page for people.
func (p Pages) execute(w io.Writer) {
	statusPage.Execute(w, struct {
		S             any
		TelemetryPath string
		Now           time.Time
	}{p.Status(), p.TelemetryPath, time.Now()})
}

// statusPage is what a person sees on the metrics port.
var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"since": func(now, t time.Time) string { return now.Sub(t).Round(time.Second).String() },
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>onescrape</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; margin: 1em 0; }
th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #ddd; }
.ready { color: #16794a; } .failed, .backoff, .abandoned { color: #b3261e; } .starting, .draining, .running { color: #8a5a00; }
</style>
</head>
<body>
<h1>onescrape</h1>
{{with .S}}<p>{{if .Ready}}<b class="ready">Ready.</b>{{else}}<b class="failed">Not ready.</b>{{end}}
Master {{.PID}}, {{.Version}}, up {{since $.Now .Started}}. Workers listen on {{range $i, $a := .Addresses}}{{if $i}}, {{end}}{{$a}}{{else}}no address{{end}};
steering is {{.Steering}}. Store: <code>{{.Store}}</code>{{with .StoreTrouble}} <b class="failed">{{.}}</b>{{end}}</p>
<table>
<tr><th>slot</th><th>pid</th><th>state</th><th>age</th><th>release</th><th>restarts</th><th>last exit</th><th>says</th></tr>
{{- range .Slots}}
<tr><td>{{.Slot}}</td><td>{{if .PID}}{{.PID}}{{end}}</td><td class="{{if .CrashLoop}}failed{{else}}{{.State}}{{end}}">{{.State}}{{if .CrashLoop}}, crash loop{{end}}</td><td>{{if .PID}}{{since $.Now .Started}}{{end}}</td><td>{{if .Release}}{{.Release}}{{end}}</td><td>{{.Restarts}}</td><td>{{.LastExit}}</td><td>{{.Text}}</td></tr>
{{- end}}
</table>
{{- range .Releases}}
<p>Release {{.Release}}: <code>{{.Program}}</code>, changed {{.Changed.UTC.Format "2006-01-02 15:04:05"}} UTC{{with .Dir}}, in <code>{{.}}</code>{{end}}</p>
{{- end}}
{{- with .Rollout}}
<p>Rollout {{.ID}} ({{.Kind}}): <span class="{{.State}}">{{.State}}</span>, {{.Done}} of {{.Total}} workers{{with .Error}}: {{.}}{{end}}</p>
{{- end}}
<p><a href="{{$.TelemetryPath}}">Metrics</a> · <a href="/api/v1/status">Status</a> · <a href="/-/ready">Ready?</a></p>
{{end}}</body>
</html>
`))
