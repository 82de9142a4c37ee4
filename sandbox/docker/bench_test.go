package docker

import (
	"io"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox"
)

// BenchmarkRoom makes and wipes rooms without services, and runs a trivial
// stage in each; times in milliseconds.
func BenchmarkRoom(b *testing.B) {
	e, err := New(Options{Transport: TransportAuto, InitPath: initBinary, StateDir: b.TempDir() + "/state"})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	var made, ran, gone time.Duration
	for b.Loop() {
		s := testSpec(sandbox.Hardened, "cleanroom/busybox")
		t0 := time.Now()
		if err := e.Make(b.Context(), s, io.Discard); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if _, err := e.Run(b.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "bench", Role: sandbox.Job, Script: strings.NewReader("true")}); err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		if _, err := e.Wipe(b.Context(), s.Name); err != nil {
			b.Fatal(err)
		}
		made, ran, gone = made+t1.Sub(t0), ran+t2.Sub(t1), gone+time.Since(t2)
	}
	for name, d := range map[string]time.Duration{"make": made, "run": ran, "wipe": gone} {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), "ms/"+name)
	}
}
