// Package redacttest makes logs and secrets to measure a redactor with: the
// same ones each time.
package redacttest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Log is a log of at least that many bytes as pytest, pip and uvicorn print it,
// with a given share of the lines that they can colour in colour.
func Log(size int, colour float64) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("api users orders session cache client handler schema models routes auth token payments reports export worker queue search index settings")
	word := func() string { return words[r.IntN(len(words))] }
	coloured := false
	paint := func(code, s string) string {
		if coloured {
			return "\x1b[" + code + "m" + s + "\x1b[0m"
		}
		return s
	}
	var b strings.Builder
	for b.Len() < size {
		coloured = r.Float64() < colour
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
	return []byte(b.String())
}

// Values are passwords, tokens, keys and addresses, as jobs have them. None is
// in a Log, nor is one of their Patterns.
func Values(n int) (all []string) {
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
		all = append(all, value)
	}
	return all
}

// Patterns are texts to look for, for those who make no forms themselves: each
// value as it is, in hex and in base64 behind nothing, one and two bytes, and
// all that once more in base64.
func Patterns(n int) (all []string) {
	encode := base64.RawStdEncoding.EncodeToString
	for _, v := range Values(n) {
		forms := []string{v, hex.EncodeToString([]byte(v)), strings.ToUpper(hex.EncodeToString([]byte(v)))}
		for before := range 3 {
			forms = append(forms, encode([]byte("::"[:before] + v))[before*4/3+min(before, 1):])
		}
		for _, f := range forms {
			all = append(all, f, encode([]byte(f)))
		}
		if len(all) >= n {
			break
		}
	}
	return all[:min(n, len(all))]
}
