// Command collector is a real OpenTelemetry Collector for tests: its OTLP
// receiver, and an exporter that writes what was received to a file. A record
// is in the file, a line of JSON each, before the receiver says that it was
// taken, so that what a KILL loses is what nobody was promised.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

var (
	listen = flag.String("listen", "127.0.0.1:4318", "host:port of OTLP over HTTP")
	file   = flag.String("file", "", "file that records are appended to")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "collector:", err)
		os.Exit(1)
	}
}

func run() error {
	if *file == "" || flag.NArg() > 0 {
		return errors.New("usage: collector --file FILE [--listen HOST:PORT]")
	}
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "test"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"yaml:" + fmt.Sprintf(configuration, *listen)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err != nil {
		return err
	}
	return c.Run(context.Background())
}

const configuration = `
receivers:
  otlp:
    protocols:
      http:
        endpoint: %s
exporters:
  lines:
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    logs:
      receivers: [otlp]
      exporters: [lines]
`

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](exporter.NewFactory(component.MustNewType("lines"),
		func() component.Config { return &struct{}{} }, exporter.WithLogs(newLines, component.StabilityLevelDevelopment)))
	return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: otelconftelemetry.NewFactory()}, err
}

// lines writes to a file. There is no queue before it.
type lines struct{ f *os.File }

func newLines(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
	f, err := os.OpenFile(*file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return lines{f}, err
}

func (lines) Start(context.Context, component.Host) error { return nil }
func (l lines) Shutdown(context.Context) error            { return l.f.Close() }
func (lines) Capabilities() consumer.Capabilities         { return consumer.Capabilities{} }

func (l lines) ConsumeLogs(_ context.Context, ld plog.Logs) error {
	var text []byte
	for _, resource := range ld.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, r := range scope.LogRecords().All() {
				line, err := json.Marshal(map[string]any{
					"resource": resource.Resource().Attributes().AsRaw(), "attributes": r.Attributes().AsRaw(),
					"body": r.Body().AsString(), "time": r.Timestamp().AsTime(), "severity": r.SeverityText(), "event": r.EventName(),
				})
				if err != nil {
					return err
				}
				text = append(append(text, line...), '\n')
			}
		}
	}
	_, err := l.f.Write(text) // in one write: a request is there or it is not
	return err
}
