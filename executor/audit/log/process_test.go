package log_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/verify"
)

// child makes this test a process of its own that appends: the log's folder,
// the key's file, what to call the records, how many; each index is printed.
const child = "TEST_AUDIT_LOG_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		f := strings.Split(os.Getenv(child), ":")
		count, _ := strconv.Atoi(f[3])
		for i := range count {
			l, err := log.Open(f[0])
			if err == nil {
				var a log.Appended
				a, err = l.Append(context.Background(), key.File(f[1]), fmt.Appendf(nil, "%s-%d", f[2], i))
				if err == nil {
					fmt.Println(i, a.Index)
				}
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		return
	}
	os.Exit(m.Run())
}

// Two hundred processes at once lose nothing, and no index is given twice.
func TestProcesses(t *testing.T) {
	l, _ := newLog(t)
	seen := map[string]string{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for p := range 200 {
		group.Go(func() {
			out := run(t, l, fmt.Sprint("p", p), 1, 0)
			mu.Lock()
			defer mu.Unlock()
			for _, line := range out {
				n, index, _ := strings.Cut(strings.TrimSpace(line), " ")
				if was, ok := seen[index]; ok {
					t.Errorf("index %s is that of %s too", index, was)
				}
				seen[index] = fmt.Sprintf("p%d-%s", p, n)
			}
		})
	}
	group.Wait()
	if len(seen) != 200 {
		t.Errorf("%d appends", len(seen))
	}
	all(t, l, seen)
}

// Processes that are killed at any time lose nothing that was appended.
func TestKilled(t *testing.T) {
	l, source := newLog(t)
	seen := map[string]string{}
	var mu sync.Mutex
	for round := range 12 {
		var group sync.WaitGroup
		for p := range 4 {
			group.Go(func() {
				who := fmt.Sprintf("r%dp%d", round, p)
				for _, line := range run(t, l, who, 1000, time.Duration(60+round*17+p*11)*time.Millisecond) {
					n, index, _ := strings.Cut(strings.TrimSpace(line), " ")
					mu.Lock()
					seen[index] = who + "-" + n
					mu.Unlock()
				}
			})
		}
		group.Wait()
	}
	if len(seen) == 0 {
		t.Fatal("nothing was appended before they were killed")
	}
	must(l.Append(t.Context(), source, record(0)))(t)
	all(t, l, seen)
	t.Logf("%d appends", len(seen))
}

// run appends in a process of its own, which it kills after a while, if that
// is not zero, and gives its lines.
func run(t *testing.T, l *log.Log, who string, count int, kill time.Duration) []string {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%s:%s:%d", child, l.Store().Dir, keyPath(l), who, count))
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Start(); err != nil {
		t.Error(err)
		return nil
	}
	if kill > 0 {
		time.AfterFunc(kill, func() { c.Process.Kill() })
	}
	if err := c.Wait(); err != nil && (kill == 0 || said.Len() > 0) {
		t.Errorf("%s: %v: %s", who, err, &said)
	}
	text := out.String()
	whole := text[:strings.LastIndexByte(text, '\n')+1] // of the last line it may have been killed within
	return slices.Collect(strings.Lines(whole))
}

// Who reads and verifies while others append finds nothing wrong.
func TestReadersAndWriters(t *testing.T) {
	l, source := newLog(t)
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			_, err = l.Append(context.Background(), source, record(i))
		}
		done <- err
	}()
	known := []verify.Known{}
	for rounds := 0; ; rounds++ {
		cp := must(l.Checkpoint())(t)
		known = append(known, verify.Known{Name: fmt.Sprint("round ", rounds), Note: cp.Note})
		r := must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: l.Keys().First, Known: known}))(t)
		if r.Err() != nil || len(r.Consistent) != len(known) || r.Records != r.Checkpoint.Size {
			t.Fatal(r.Err())
		}
		if cp.Size > 0 {
			must(l.Record(cp, cp.Size-1))(t)
			must(l.ProveGrowth(cp, 1+cp.Size/2))(t)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
