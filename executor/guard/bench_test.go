package guard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"cleanroom/executor/redact"
)

// benchGuard looks for 200 forms, as ten secrets have.
func benchGuard(b *testing.B) *Guard {
	r := rand.New(rand.NewPCG(1, 2))
	var all []redact.Secret
	for {
		value := make([]byte, 20)
		for i := range value {
			value[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[r.IntN(62)]
		}
		all = append(all, redact.Secret{Name: fmt.Sprint(len(all)), Value: string(value)})
		if m, err := redact.NewMatcher(all, redact.Options{}); err != nil {
			b.Fatal(err)
		} else if m.Forms() >= 200 {
			return New(m, Options{})
		}
	}
}

// words are text as programs and logs have it.
func words(n int) string {
	r := rand.New(rand.NewPCG(3, 4))
	list := strings.Fields("api users orders session cache client handler schema models def return import self None if not in for raise Error tests passed INFO 200 GET POST worker queue index { } ( ) [ ] = == : \"id\": 1024 0x7f")
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(list[r.IntN(len(list))])
		b.WriteByte(" \n"[min(r.IntN(12), 1)^1])
	}
	return b.String()[:n]
}

func benchSearch(b *testing.B, files ...string) { benchSum(b, false, files...) }

func benchSum(b *testing.B, sum bool, files ...string) {
	g := benchGuard(b)
	size := 0
	for _, f := range files {
		size += len(f)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range files {
			var h hash.Hash
			if sum {
				h = sha256.New()
			}
			if err := g.SearchSum(context.Background(), "f", strings.NewReader(f), int64(len(f)), func(f Finding) { b.Error(f) }, h); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkSearchPlain(b *testing.B) {
	random := make([]byte, 4<<20)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	b.Run("text", func(b *testing.B) { benchSearch(b, strings.Repeat(words(4<<20), 64)) })
	b.Run("random", func(b *testing.B) { benchSearch(b, strings.Repeat(string(random), 64)) })
	b.Run("zeros", func(b *testing.B) { benchSearch(b, string(make([]byte, 256<<20))) })
	b.Run("tar", func(b *testing.B) {
		var files []file
		for i := range 2000 {
			files = append(files, file{fmt.Sprint(i), words(100 << 10)[:r.IntN(100<<10)]})
		}
		benchSearch(b, tarOf(files...))
	})
}

func BenchmarkSearchSmall(b *testing.B) { benchSearch(b, small()...) }

func small() (files []string) {
	all := words(64 << 20)
	for at := 0; at+8<<10 <= len(all); at += 8 << 10 {
		files = append(files, all[at:][:8<<10])
	}
	return files
}

// BenchmarkSearchSum is what a job with provenance takes.
func BenchmarkSearchSum(b *testing.B) {
	b.Run("text", func(b *testing.B) { benchSum(b, true, strings.Repeat(words(4<<20), 64)) })
	b.Run("zeros", func(b *testing.B) { benchSum(b, true, string(make([]byte, 256<<20))) })
	b.Run("small", func(b *testing.B) { benchSum(b, true, small()...) })
}

// packed counts what is unpacked.
func packed(b *testing.B, file string, size int) {
	benchSearch(b, file)
	b.SetBytes(int64(size))
}

func BenchmarkSearchPacked(b *testing.B) {
	text := words(64 << 20)
	b.Run("gzip", func(b *testing.B) { packed(b, gz(text), len(text)) })
	b.Run("zip", func(b *testing.B) {
		var files []file
		for at := 0; at < len(text); at += 64 << 10 {
			files = append(files, file{fmt.Sprint(at), text[at:][:64<<10]})
		}
		packed(b, zipOf(files...), len(text))
	})
	b.Run("xz", func(b *testing.B) { packed(b, xzOf(text[:8<<20]), 8<<20) })
	b.Run("zstd", func(b *testing.B) { packed(b, zstdOf(text), len(text)) })
}

// What the scan alone takes, to compare.
func BenchmarkScanAlone(b *testing.B) {
	g, text := benchGuard(b), []byte(words(64<<20))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s := g.m.Scan()
		buf := make([]byte, 1<<20)
		in := bytes.NewReader(text)
		for {
			n, err := in.Read(buf)
			if err == io.EOF {
				break
			}
			s.Feed(buf[:n], func(f redact.Finding) { b.Error(f) })
		}
	}
}
