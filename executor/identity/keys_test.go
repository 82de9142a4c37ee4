package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/executor/identity/idptest"
)

// verify is Verify by a process of its own, at a time.
func (r *rig) verify(t *testing.T, raw string, at time.Time) error {
	t.Helper()
	v := r.verifier(t)
	v.now = func() time.Time { return at }
	_, err := v.Verify(t.Context(), "T", raw)
	return err
}

func (r *rig) asked(t *testing.T, want int) {
	t.Helper()
	if n := r.idp.Requests(idptest.JWKSPath); n != want {
		t.Errorf("the keys were asked for %d times, want %d", n, want)
	}
}

// long is a token that outlives all clocks of these tests.
func (r *rig) long(options ...idptest.Option) string {
	return r.idp.Sign(claims(map[string]any{"exp": time.Now().Add(240 * time.Hour)}), options...)
}

func TestKeysAreCached(t *testing.T) {
	r := newRig(t)
	now, raw := time.Now(), r.long()
	for range 3 {
		if err := r.verify(t, raw, now); err != nil {
			t.Fatal(err)
		}
	}
	r.asked(t, 1)
	if err := r.verify(t, raw, now.Add(59*time.Minute)); err != nil {
		t.Fatal(err)
	}
	r.asked(t, 1)
	if err := r.verify(t, raw, now.Add(61*time.Minute)); err != nil {
		t.Fatal(err)
	}
	r.asked(t, 2) // keys_max_age
	r.cfg.Issuers[0].JWKSURL = r.idp.URL + idptest.JWKSPath
	if err := r.verify(t, raw, now.Add(61*time.Minute)); err != nil {
		t.Fatal(err)
	}
	r.asked(t, 3) // keys from elsewhere are others

	files, err := os.ReadDir(r.cache)
	if err != nil || len(files) != 2 { // keys and lock
		t.Fatal(files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}

// Without a folder one process remembers.
func TestKeysInMemory(t *testing.T) {
	r := newRig(t)
	r.cache = ""
	v, now := r.verifier(t), time.Now()
	v.now = func() time.Time { return now } // no pause is over, however slow the machine
	for range 3 {
		if _, err := v.Verify(t.Context(), "T", r.long()); err != nil {
			t.Fatal(err)
		}
	}
	r.asked(t, 1)
	if _, err := v.Verify(t.Context(), "T", r.long(idptest.Header("kid", "x"))); err == nil {
		t.Error("unknown kid")
	}
	r.asked(t, 1)
}

func TestRotation(t *testing.T) {
	r := newRig(t)
	now, old := time.Now(), r.long()
	if err := r.verify(t, old, now); err != nil {
		t.Fatal(err)
	}
	r.idp.RotateKeys()
	fresh := r.long()
	// The new kid is not in the cache; the keys were read this second.
	refused(t, r.verify(t, fresh, now.Add(time.Second)), ErrToken, `key "rsa-2", which is not among those of `+r.idp.URL+" (read 1s ago)", fresh)
	r.asked(t, 1)
	if err := r.verify(t, fresh, now.Add(time.Minute)); err != nil {
		t.Fatal("a new key is asked for:", err)
	}
	r.asked(t, 2)
	if err := r.verify(t, old, now.Add(time.Minute)); err != nil {
		t.Fatal("a key that the issuer still shows is good:", err)
	}
	r.idp.WithdrawOldKeys()
	if err := r.verify(t, old, now.Add(2*time.Minute)); err != nil {
		t.Fatal("until keys_max_age the cache is believed:", err)
	}
	r.asked(t, 2)
	refused(t, r.verify(t, old, now.Add(2*time.Hour)), ErrToken, `key "rsa-1", which is not among`, old)
	r.asked(t, 3)
}

// A job with made-up kids does not make us hammer the issuer.
func TestUnknownKidIsAskedForOnce(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	if err := r.verify(t, r.long(), now); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		raw := r.long(idptest.Header("kid", "made-up-"+string(rune('a'+i%26))))
		refused(t, r.verify(t, raw, now.Add(time.Minute)), ErrToken, "is not among those", raw)
	}
	r.asked(t, 2)
	raw := r.long(idptest.Header("kid", "x"))
	refused(t, r.verify(t, raw, now.Add(time.Minute+pause)), ErrToken, "is not among those", raw)
	r.asked(t, 3)
}

// Many at once, each as a process of its own: one asks, and all have it.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t)
	raw := r.long()
	var wait sync.WaitGroup
	for range 16 {
		v := r.verifier(t)
		wait.Go(func() {
			if _, err := v.Verify(t.Context(), "T", raw); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	r.asked(t, 1)
}

func TestIssuerDown(t *testing.T) {
	r := newRig(t)
	now, raw := time.Now(), r.long()
	r.idp.Down(true)
	refused(t, r.verify(t, raw, now), ErrIssuer, "token T: cannot be verified: keys of "+r.idp.URL+" cannot be read: ", raw)
	r.idp.Down(false)
	if err := r.verify(t, raw, now); err != nil {
		t.Fatal("it is back:", err)
	}
	r.idp.Down(true)
	if err := r.verify(t, raw, now.Add(50*time.Minute)); err != nil {
		t.Error("the cache is not too old:", err)
	}
	refused(t, r.verify(t, raw, now.Add(2*time.Hour)), ErrIssuer, "cannot be read", raw)

	unknown := r.long(idptest.Header("kid", "x"))
	refused(t, r.verify(t, unknown, now.Add(time.Minute)), ErrIssuer, "cannot be read", unknown)
	r.idp.Down(false) // within the pause nobody asks, and nobody says that there is no such key
	refused(t, r.verify(t, unknown, now.Add(time.Minute+time.Second)), ErrIssuer, `key "x" is not known, and asking for it failed 1s ago`, unknown)
	refused(t, r.verify(t, unknown, now.Add(2*time.Minute)), ErrToken, "is not among", unknown)
}

// Every answer but a good one is the issuer's failure, not the job's.
func TestBadAnswers(t *testing.T) {
	r := newRig(t)
	huge := append([]byte(`{"keys":[],"x":"`), bytes.Repeat([]byte("x"), maxAnswer)...)
	for _, test := range []struct {
		name, line string
		set        func(*idptest.Provider)
	}{
		{"huge", "answers with more than 1048576 bytes", func(p *idptest.Provider) { p.SetJWKS(huge) }},
		{"no JSON", "it is no JSON of a key set", func(p *idptest.Provider) { p.SetJWKS([]byte("<html>\nsecret</html>")) }},
		{"a list", "it is no JSON of a key set", func(p *idptest.Provider) { p.SetJWKS([]byte("[]")) }},
		{"no keys", "it holds no public key for RS256", func(p *idptest.Provider) { p.SetJWKS([]byte(`{"keys":[]}`)) }},
		{"null", "it holds no public key for RS256", func(p *idptest.Provider) { p.SetJWKS([]byte(`null`)) }},
		{"odd keys", "it holds no public key for RS256", func(p *idptest.Provider) {
			p.SetJWKS([]byte(`{"keys":[7,null,{"kty":"oct","k":"AAAA","kid":"rsa-1"},{"kty":"RSA","kid":"rsa-1","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed448","x":"AA","kid":"rsa-1"}]}`))
		}},
		{"JWKS 500", "answers with status 500", func(p *idptest.Provider) { p.Fail(idptest.JWKSPath, 500) }},
		{"discovery 404", "answers with status 404", func(p *idptest.Provider) { p.Fail(idptest.DiscoveryPath, 404) }},
		{"a redirect", "answers with status 302", func(p *idptest.Provider) { p.Fail(idptest.JWKSPath, http.StatusFound) }},
		{"another issuer", `is of issuer "https://evil.test": correct`, func(p *idptest.Provider) { p.SetDiscovery(map[string]any{"issuer": "https://evil.test"}) }},
		{"issuer with a slash", "is of issuer", func(p *idptest.Provider) { p.SetDiscovery(map[string]any{"issuer": p.URL + "/"}) }},
		{"no jwks_uri", "names no jwks_uri", func(p *idptest.Provider) { p.SetDiscovery(map[string]any{"jwks_uri": nil}) }},
		{"jwks_uri without TLS", "that is not https", func(p *idptest.Provider) { p.SetDiscovery(map[string]any{"jwks_uri": "http://127.0.0.1/keys"}) }},
		{"jwks_uri no URL", "no JSON of a discovery document", func(p *idptest.Provider) { p.SetDiscovery(map[string]any{"jwks_uri": 7}) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.set(r.idp)
			raw := r.long()
			refused(t, r.verify(t, raw, time.Now()), ErrIssuer, test.line, raw)
			r.idp.SetJWKS(nil)
			r.idp.SetDiscovery(nil)
			r.idp.Fail(idptest.JWKSPath, 0)
			r.idp.Fail(idptest.DiscoveryPath, 0)
		})
	}
	if err := r.verify(t, r.long(), time.Now()); err != nil {
		t.Error("nothing of it stays:", err)
	}
	r.cfg.Issuers[0].CAFile, r.cache = "", ""
	raw := r.long()
	refused(t, r.verify(t, raw, time.Now()), ErrIssuer, "certificate", raw)
}

// Nobody sends us elsewhere for keys.
func TestNoRedirect(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(http.RedirectHandler(r.idp.URL+idptest.JWKSPath, http.StatusFound))
	defer server.Close()
	r.cfg.Issuers[0].JWKSURL = server.URL
	raw := r.long()
	refused(t, r.verify(t, raw, time.Now()), ErrIssuer, "answers with status 302", raw)
	r.asked(t, 0)
}

// A key is for the algorithm that it names, and for what we may use.
func TestUnusableKeys(t *testing.T) {
	r := newRig(t)
	r.cfg.Issuers[0].Algorithms = []string{"RS256", "RS512"}
	raw := r.long()
	r.idp.SetJWKS(bytes.ReplaceAll(r.idp.KeySet(), []byte(`"RS256"`), []byte(`"RS512"`)))
	refused(t, r.verify(t, raw, time.Now()), ErrToken, `signature is not that of key "rsa-1"`, raw)

	short := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 128))
	long := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256))
	for name, test := range map[string]struct {
		fields string
		usable bool
	}{
		"2048 bits":      {`"kid":"x","kty":"RSA","e":"AQAB","n":"` + long + `"`, true},
		"1024 bits":      {`"kid":"x","kty":"RSA","e":"AQAB","n":"` + short + `"`, false},
		"no name":        {`"kty":"RSA","e":"AQAB","n":"` + long + `"`, false},
		"for encryption": {`"kid":"x","use":"enc","kty":"RSA","e":"AQAB","n":"` + long + `"`, false},
		"another alg":    {`"kid":"x","alg":"PS256","kty":"RSA","e":"AQAB","n":"` + long + `"`, false},
	} {
		if keys, err := parseKeys([]byte(`{"keys":[{`+test.fields+`}]}`), algorithms[:1]); (err == nil) != test.usable || (len(keys) == 1) != test.usable {
			t.Errorf("%s: %v %v", name, keys, err)
		}
	}
}

// A slow issuer costs Timeout, not what it likes.
func TestSlowIssuer(t *testing.T) {
	r := newRig(t)
	r.idp.Slow(time.Hour)
	raw, v := r.long(), r.verifier(t)
	v.Timeout = 50 * time.Millisecond
	_, err := v.Verify(t.Context(), "T", raw)
	refused(t, err, ErrIssuer, "context deadline exceeded", raw)

	// Nor does waiting for another process that asks it.
	unlock, err := v.issuers[0].cache.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := r.verifier(t)
	w.Timeout = 50 * time.Millisecond
	_, err = w.Verify(t.Context(), "T", raw)
	refused(t, err, ErrIssuer, "another process is reading them", raw)
	unlock()

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Verify(gone, "T", raw)
	refused(t, err, ErrIssuer, "context canceled", raw)
}

// Whatever is in the cache's place, it is asked anew and replaced.
func TestBadCache(t *testing.T) {
	r := newRig(t)
	now, raw := time.Now(), r.long()
	if err := r.verify(t, raw, now); err != nil {
		t.Fatal(err)
	}
	path := r.verifier(t).issuers[0].cache.path + ".json"
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte, mode os.FileMode) func() error {
		return func() error {
			os.Remove(path)
			if err := os.WriteFile(path, data, mode); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	if err := os.WriteFile(strings.TrimSuffix(path, "json")+"tmp", []byte("of a killed process"), 0o400); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(link, good, 0o600); err != nil {
		t.Fatal(err)
	}
	asked := 1
	for name, spoil := range map[string]func() error{
		"empty":            write(nil, 0o600),
		"cut":              write(good[:len(good)/2], 0o600),
		"zeros":            write(make([]byte, 4096), 0o600),
		"no keys":          write([]byte(`{"issuer":"`+r.idp.URL+`","fetched":"2026-01-01T00:00:00Z"}`), 0o600),
		"another issuer's": write(bytes.ReplaceAll(good, []byte(r.idp.URL), []byte("https://other.test")), 0o600),
		"huge":             write(append(bytes.Repeat([]byte(" "), 3*maxAnswer), good...), 0o600),
		"others may write": write(good, 0o622),
		"a link":           func() error { os.Remove(path); return os.Symlink(link, path) },
		"a pipe":           func() error { os.Remove(path); return mkfifo(path) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(name, err)
		}
		if err := r.verify(t, raw, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		asked++
		r.asked(t, asked)
		if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s was not replaced: %v %v", name, info, err)
		}
	}
	if files, err := os.ReadDir(r.cache); err != nil || len(files) != 2 {
		t.Errorf("litter: %v %v", files, err)
	}
	// A clock that was set back: nobody knows how old that is.
	if err := r.verify(t, r.idp.Sign(claims(map[string]any{"iat": nil, "nbf": nil})), now.Add(-time.Hour)); err != nil {
		t.Error(err)
	}
	r.asked(t, asked+1)

	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path+"/x", 0o700); err != nil { // cannot be renamed over
		t.Fatal(err)
	}
	refused(t, r.verify(t, raw, now), ErrIssuer, "cannot be kept", raw)
}
