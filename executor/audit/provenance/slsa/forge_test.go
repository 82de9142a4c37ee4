package slsa

import (
	"crypto"
	"encoding/json"
	"io"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// failing is a key that is not there today.
type failing struct{ crypto.Signer }

func (failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, io.ErrClosedPipe
}

// forge signs what Seal would not give out.
func forge(t *testing.T, by Key, payloadType, payload string) []byte {
	t.Helper()
	public, _ := signer(1)
	k, err := keyOf(public)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dsse.NewEnvelopeSigner(signing{k, by})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.SignPayload(t.Context(), payloadType, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// What comes from elsewhere: an answer, and no other than it should be.
func FuzzVerify(f *testing.F) {
	public, private := signer(1)
	s, err := New(garden(""), files("a"), hide)
	if err != nil {
		f.Fatal(err)
	}
	line, err := Seal(f.Context(), s, public, private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"AA=="}]}`))
	f.Add([]byte(`{"signatures":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Verify(b, public)
		if (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err == nil && got.Subject[0].Name != "a" {
			t.Errorf("a forgery: %v", got)
		}
	})
}
