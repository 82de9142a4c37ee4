package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shared is the server that most tests use.
var shared *server

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (code int, err error) {
	flag.Parse()
	// Listing needs no server, nor does fuzzing as `make fuzz` does it.
	if value := func(name string) string { return flag.Lookup(name).Value.String() }; value("test.list") != "" ||
		value("test.fuzz") != "" && value("test.run") == "^$" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "cleanroom-vault-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if shared, err = start(dir, "127.0.0.1:0"); err != nil {
		return 1, err
	}
	defer shared.stop()
	if err := configure(shared); err != nil {
		return 1, err
	}
	defer removeDatabase()
	return m.Run(), nil
}

// server is a real Vault.
type server struct {
	dir, url, root string
	cmd            *exec.Cmd
}

// start starts one on a folder, or goes on with what is there.
func start(dir, listen string) (*server, error) {
	binary := os.Getenv("VAULT_SERVER")
	if binary == "" {
		return nil, errors.New("VAULT_SERVER is not set: run `make test`, which builds a Vault server")
	}
	s := &server{dir: dir}
	file := filepath.Join(dir, "root-token")
	text, err := os.ReadFile(file)
	if err != nil {
		text = []byte("root-" + rand.Text())
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
	}
	s.root = string(text)
	log, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(binary, "--dir", dir, "--listen", listen)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 600 { // a minute: the machine may be busy
		out, err := os.ReadFile(log.Name())
		if err != nil {
			return nil, err
		}
		if _, rest, ok := strings.Cut(string(out), "listening url="); ok && strings.Contains(rest, "\n") {
			s.url, _, _ = strings.Cut(rest, "\n")
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	out, _ := os.ReadFile(log.Name())
	s.stop()
	return nil, fmt.Errorf("the Vault server does not come up: %s", out)
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// ask makes a request as root, not with the client under test.
func (s *server) ask(method, path string, body any) (map[string]any, error) {
	return s.askAs(s.root, method, path, body)
}

func (s *server) askAs(token, method, path string, body any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %d: %s", method, path, resp.StatusCode, b)
	}
	answer := map[string]any{}
	if len(b) > 0 {
		err = json.Unmarshal(b, &answer)
	}
	return answer, err
}

// write does it as root and must succeed.
func (s *server) write(t *testing.T, path string, body map[string]any) map[string]any {
	t.Helper()
	answer, err := s.ask(http.MethodPut, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// alive says whether a token is known.
func (s *server) alive(t *testing.T, accessor string) bool {
	t.Helper()
	_, err := s.ask(http.MethodPut, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
	return known(t, err)
}

// leased says whether a lease is known.
func (s *server) leased(t *testing.T, id string) bool {
	t.Helper()
	_, err := s.ask(http.MethodPut, "sys/leases/lookup", map[string]any{"lease_id": id})
	return known(t, err)
}

func known(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !strings.Contains(err.Error(), "invalid ") {
		t.Fatal(err)
	}
	return err == nil
}
