package forward

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cleanroom/config"
)

// otelcol is a real OpenTelemetry Collector (integration/collector).
type otelcol struct {
	dir, file, address string
	cmd                *exec.Cmd
}

func startCollector(t *testing.T) *otelcol {
	t.Helper()
	c := &otelcol{dir: t.TempDir(), address: freePort(t)}
	c.file = filepath.Join(c.dir, "lines")
	c.up(t)
	t.Cleanup(c.down)
	return c
}

func (c *otelcol) up(t *testing.T) {
	t.Helper()
	binary := os.Getenv("COLLECTOR")
	if binary == "" {
		t.Fatal("COLLECTOR is not set: run `make test`, which builds an OpenTelemetry Collector")
	}
	log, err := os.Create(filepath.Join(c.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd = exec.Command(binary, "--file", c.file, "--listen", c.address)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the collector listens", func() bool {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, func() string { words, _ := os.ReadFile(log.Name()); return string(words) })
}

func (c *otelcol) down() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// received is a log record as the collector has it.
type received struct {
	Resource, Attributes  map[string]any
	Body, Severity, Event string
	Time                  time.Time
}

func (c *otelcol) got(t *testing.T) (all []got) {
	for _, l := range lines[received](t, c.file) {
		notice, _ := l.Attributes["cleanroom.log.notice"].(string)
		all = append(all, got{int64(l.Attributes["cleanroom.log.index"].(float64)), l.Attributes["cleanroom.log.leaf"].(string), notice, l.Body})
	}
	return all
}

func TestCollector(t *testing.T) {
	c := startCollector(t)
	b := newBench(t, config.Forward{Kind: "otlp", Address: "http://" + c.address})
	b.log.fill(3)
	b.run(t)
	all := lines[received](t, c.file)
	b.holds(t, c.got(t))
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	host, _ := os.Hostname()
	one, want := all[1], b.log.all[1]
	if one.Resource["service.name"] != "cleanroom" || one.Resource["service.version"] != "1.2" || one.Resource["host.name"] != host ||
		one.Attributes["cleanroom.log.origin"] != "host.example/cleanroom" || one.Severity != "INFO" || one.Event != "cleanroom.audit.record" ||
		!one.Time.Equal(want.Time.Round(0)) || one.Attributes["log.record.uid"] != "host.example/cleanroom/1/"+leafOf(want.Body) {
		t.Errorf("%+v", one)
	}

	// The log is replaced by another: the collector hears of it, and has both.
	b.log.all = nil
	b.log.add(`{"other":0}`, `{"other":1}`)
	b.run(t)
	rest := c.got(t)[3:]
	if len(rest) != 3 || rest[0].Notice != "rewritten" || rest[1].Body != `{"other":0}` || rest[2].Index != 1 {
		t.Errorf("%+v", rest)
	}
}

func TestCollectorComesAndGoes(t *testing.T) {
	c := startCollector(t)
	b := newBench(t, config.Forward{Kind: "otlp", Address: "http://" + c.address})
	comesAndGoes(t, b, c.file, func() []got { return c.got(t) }, c.down, func() { c.up(t) })
}
