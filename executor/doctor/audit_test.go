package doctor

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
)

func TestAuditLog(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	is(t, auditLog(t.Context(), cfg), Warn, "audit init")
	cfg.Audit.Required = true
	is(t, auditLog(t.Context(), cfg), Fail, "audit init")
	if _, _, err := ledger.Init(t.Context(), cfg, "ci.test/log", func(origin, vkey string) ([]byte, error) {
		return (&record.Record{Kind: record.OfBegun, ID: record.MakeID(record.OfBegun), At: time.Now(), Begun: &record.Begun{Origin: origin, Key: vkey}}).Encode()
	}); err != nil {
		t.Fatal(err)
	}
	is(t, auditLog(t.Context(), cfg), OK, "ci.test/log, 1 records")
	q := queue.Of(cfg.DataDir)
	p, err := q.Take(t.Context(), q.Name("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Keep(queue.Entry{Record: "{}"}); err != nil {
		t.Fatal(err)
	}
	is(t, auditLog(t.Context(), cfg), Warn, "1 more wait for it")
	if err := os.WriteFile(filepath.Join(q.Dir, "y.unusable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is(t, auditLog(t.Context(), cfg), Fail, "1 entries of its queue cannot be read")
}
