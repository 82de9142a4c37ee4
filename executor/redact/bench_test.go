package redact

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"cleanroom/executor/redact/redacttest"
)

// benchSecrets are n secrets with values as jobs have them.
func benchSecrets(n int) (all []Secret) {
	for i, value := range redacttest.Values(n) {
		all = append(all, Secret{Name: fmt.Sprintf("SECRET_%d", i), Value: value})
	}
	return all
}

// atMost takes the secrets with at most n forms together.
func atMost(b *testing.B, n int) []Secret {
	all := benchSecrets(1000)
	for k := 1; ; k++ {
		if m, err := NewMatcher(all[:k], Options{}); err != nil {
			b.Fatal(err)
		} else if m.Forms() > n {
			return all[:k-1]
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, set := range []struct {
		name    string
		secrets []Secret
	}{{"200 forms", atMost(b, 200)}, {"6000 forms", atMost(b, 6000)}, {"500 secrets", benchSecrets(500)}} {
		m, err := NewMatcher(set.secrets, Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, log := range []struct {
			name   string
			colour float64
		}{{"plain", 0}, {"now and then", 0.1}, {"coloured", 1}} {
			text := redacttest.Log(4<<20, log.colour)
			for _, size := range []int{32 << 10, 128} {
				b.Run(fmt.Sprintf("%s (%d)/%s/%d", set.name, m.Forms(), log.name, size), func(b *testing.B) {
					r, err := New(io.Discard, set.secrets, Options{AddMask: true})
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(len(text)))
					b.ReportAllocs()
					for b.Loop() {
						for at := 0; at < len(text); at += size {
							if _, err := r.Write(text[at:min(at+size, len(text))]); err != nil {
								b.Fatal(err)
							}
						}
					}
					if len(r.Counts()) > 0 {
						b.Error(r.Counts())
					}
				})
			}
		}
	}
}

// What a stage pays before its first byte.
func BenchmarkNewMatcher(b *testing.B) {
	for _, n := range []int{10, 50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			secrets := benchSecrets(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewMatcher(secrets, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Files, as the guard reads them.
func BenchmarkScan(b *testing.B) {
	m, err := NewMatcher(benchSecrets(50), Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	random := make([]byte, 4<<20)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for _, file := range []struct {
		name string
		b    []byte
	}{{"text", redacttest.Log(4<<20, 0)}, {"random", random}, {"zeros", make([]byte, 4<<20)}} {
		b.Run(file.name, func(b *testing.B) {
			b.SetBytes(int64(len(file.b)))
			for b.Loop() {
				s := m.Scan()
				s.Feed(file.b, func(f Finding) { b.Error(f) })
				s.End(func(f Finding) { b.Error(f) })
			}
		})
	}
}

// BenchmarkNew is what every stage of a job pays before its first byte: twenty
// values, as a job has them, three of them JWTs. And what a stage pays that
// prints the beginning of one.
func BenchmarkNew(b *testing.B) {
	secrets := jobSecrets()
	for _, text := range []string{"", secrets[len(secrets)-1].Value[:20]} {
		b.Run(fmt.Sprintf("%d bytes of one", len(text)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := New(io.Discard, secrets, Options{})
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(r, text)
			}
		})
	}
}

// jobSecrets are seventeen values and three JWTs of 1.2 KiB.
func jobSecrets() []Secret {
	r := rand.New(rand.NewPCG(7, 8))
	all := benchSecrets(17)
	for i := range 3 {
		claims := make([]byte, 600)
		for j := range claims {
			claims[j] = byte(' ' + r.IntN(95))
		}
		signature := make([]byte, 256)
		for j := range signature {
			signature[j] = byte(r.Uint32())
		}
		e := base64.RawURLEncoding
		all = append(all, Secret{Name: fmt.Sprintf("TOKEN_%d", i), Value: e.EncodeToString([]byte(`{"kid":"4i3sFE7sxqNPOT7FdvcGA1ZVGGI_r-tsDXnEuYT4ZqE","typ":"JWT","alg":"RS256"}`)) +
			"." + e.EncodeToString(claims) + "." + e.EncodeToString(signature)})
	}
	return all
}
