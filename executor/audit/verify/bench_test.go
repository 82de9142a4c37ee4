package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/verify"
)

// million is how many records the benchmarked log has; each has about a
// kilobyte and a half, as a job with three secrets has.
const million = 1_000_000

// BenchmarkMillion makes a log of a million records and times what is done
// with it.
func BenchmarkMillion(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	path := filepath.Join(b.TempDir(), "audit.key")
	source := key.File(path)
	l := must(log.Init(b.Context(), dir, must(key.Create(path, origin))(b)))(b)
	text := strings.Repeat("0123456789abcdef", 95)
	one := func(i int) []byte { return fmt.Appendf(nil, `{"job":%d,"pad":%q}`, i, text) }
	for i := 0; i < million; {
		var list [][]byte
		for range min(2000, million-i) {
			list = append(list, one(i))
			i++
		}
		must(l.Append(b.Context(), source, list...))(b)
	}
	// As a process does that appends once: nothing is in its memory.
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			l := must(log.Open(dir))(b)
			must(l.Append(b.Context(), source, one(7)))(b)
		}
	})
	b.Run("checkpoint", func(b *testing.B) {
		for b.Loop() {
			must(must(log.Open(dir))(b).Checkpoint())(b)
		}
	})
	cp := must(l.Checkpoint())(b)
	b.Run("prove", func(b *testing.B) {
		for i := int64(0); b.Loop(); i += 7919 {
			text := must(proof.Make(l, i%million, nil))(b)
			must(proof.Verify(text, l.Keys().First))(b)
		}
	})
	b.Run("growth", func(b *testing.B) {
		for i := int64(0); b.Loop(); i += 7919 {
			must(l.ProveGrowth(cp, 1+i%million))(b)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := l.Each(cp, 0, func(int64, []byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			r := must(verify.Log(b.Context(), dir, verify.Options{First: l.Keys().First}))(b)
			if r.Err() != nil || r.Records < million {
				b.Fatalf("%d records: %v", r.Records, r.Err())
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapSys)/1e6, "MB-heap")
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			var kb float64
			if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
				b.ReportMetric(kb/1000, "MB-peak")
			}
		}
	})
}
