package https

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://vault.test:8200": "", "http://127.0.0.1:8200": "", "http://[::1]:1": "", "http://localhost/x": "",
		"http://vault.test":                  "must be an https URL",
		"http://127.0.0.1.evil.test":         "must be an https URL",
		"https://me:canary-of-url@host.test": "must be a URL without a login",
		"http://me:canary-of-url@127.0.0.1":  "must be a URL without a login",
		"https://host.test/#part":            "must be a URL",
		"vault.test":                         "must be a URL",
		"":                                   "must be a URL",
		"://canary-of-url":                   "must be a URL",
	} {
		err := CheckURL(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTransport(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bad, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{bad: "holds no PEM certificate", filepath.Join(t.TempDir(), "none"): "no such file"} {
		if _, err := Transport(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if tr, err := Transport(""); err != nil || tr.TLSClientConfig.RootCAs != nil {
		t.Error(err)
	}
}
