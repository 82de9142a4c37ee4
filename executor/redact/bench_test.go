package redact

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// corpus is a log as pytest, pip and uvicorn print it, about 4 MB.
func corpus(colour bool) string {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("api users orders session cache client handler schema models routes auth token payments reports export worker queue search index settings")
	word := func() string { return words[r.IntN(len(words))] }
	paint := func(code, s string) string {
		if colour {
			return "\x1b[" + code + "m" + s + "\x1b[0m"
		}
		return s
	}
	var b strings.Builder
	for b.Len() < 4<<20 {
		switch r.IntN(10) {
		case 0, 1, 2:
			fmt.Fprintf(&b, "tests/%s/test_%s.py::TestCreate::test_%s_%s[%d-%s] %s%s[%3d%%]\n", word(), word(), word(), word(), r.IntN(99), word(), paint("32", "PASSED"), strings.Repeat(" ", r.IntN(20)), r.IntN(100))
		case 3, 4:
			fmt.Fprintf(&b, "%s:     10.0.%d.%d:%d - \"%s /v1/%s/%d?limit=%d HTTP/1.1\" %s\n", paint("32", "INFO"), r.IntN(256), r.IntN(256), 30000+r.IntN(30000), []string{"GET", "POST", "PUT"}[r.IntN(3)], word(), r.IntN(100000), r.IntN(100), paint("32", "200 OK"))
		case 5:
			fmt.Fprintf(&b, "Collecting %s-%s>=%d.%d (from -r requirements.txt (line %d))\n", word(), word(), r.IntN(9), r.IntN(30), r.IntN(80))
		case 6:
			fmt.Fprintf(&b, "  Downloading %s_%s-%d.%d.%d-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl.metadata (%d.%d kB)\n", word(), word(), r.IntN(9), r.IntN(30), r.IntN(9), r.IntN(20), r.IntN(9))
		case 7:
			fmt.Fprintf(&b, "     %s %d.%d/12.4 MB %d.%d MB/s eta 0:00:0%d\r", paint("38;5;70", strings.Repeat("━", 1+r.IntN(40))), r.IntN(12), r.IntN(9), r.IntN(90), r.IntN(9), r.IntN(9))
		case 8:
			fmt.Fprintf(&b, "2026-11-23 09:%02d:%02d,%03d %-8s sqlalchemy.engine.Engine SELECT %s.id, %s.name FROM %s WHERE %s.id = %%(id_1)s\n", r.IntN(60), r.IntN(60), r.IntN(1000), "INFO", word(), word(), word(), word())
		default:
			fmt.Fprintf(&b, "  File \"/usr/local/lib/python3.12/site-packages/%s/%s.py\", line %d, in %s_%s\n    raise %sError(f\"{%s} is not %x\")\n", word(), word(), r.IntN(2000), word(), word(), word(), word(), r.Uint64())
		}
	}
	return b.String()
}

// benchSecrets are passwords, tokens, keys and addresses, as jobs have them.
func benchSecrets(n int) (all []Secret) {
	r := rand.New(rand.NewPCG(3, 4))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	draw := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for i := range n {
		value := draw(20)
		switch i % 6 {
		case 0:
			value = draw(12)
		case 1:
			value = "postgresql://app_" + draw(4) + ":" + draw(16) + "@db.internal:5432/app"
		case 2:
			value = "glpat-" + draw(20)
		case 3:
			value = draw(40)
		}
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
			name, text string
		}{{"plain", corpus(false)}, {"coloured", corpus(true)}} {
			for _, size := range []int{32 << 10, 128} {
				b.Run(fmt.Sprintf("%s (%d)/%s/%d", set.name, m.Forms(), log.name, size), func(b *testing.B) {
					r, err := New(io.Discard, set.secrets, Options{AddMask: true})
					if err != nil {
						b.Fatal(err)
					}
					text := []byte(log.text)
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
	}{{"text", []byte(corpus(false))}, {"random", random}, {"zeros", make([]byte, 4<<20)}} {
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
// values, as a job has them, three of them JWTs.
func BenchmarkNew(b *testing.B) {
	secrets := jobSecrets()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(io.Discard, secrets, Options{}); err != nil {
			b.Fatal(err)
		}
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
