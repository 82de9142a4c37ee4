package guard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Any input: no panic, an end, offsets that can be, and a value that is in the
// file as it is is found or there are too many.
func FuzzSearch(f *testing.F) {
	f.Add([]byte(gz(tarOf(file{"a", text}))))
	f.Add([]byte(zipOf(file{"a", gz(text)}, file{"b", zip0Of(file{"c", text})})))
	f.Add([]byte(byHand("x", part{name: "a", local: 0, central: 8, data: deflate(text)})))
	f.Add([]byte(byHand("", part{name: "a", flags: 8, localSize: -1, data: "x"}, part{name: "b", local: 93, data: zstdOf(text)})))
	f.Add([]byte(xzOf(text) + bzip2Of() + zstdOf(text)))
	f.Add([]byte(oldPip(zipOf(file{"a", text}))))
	f.Add([]byte(overlapping(5, deflate(strings.Repeat("a", 1000)))))
	m := matcher(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		n, all, sum := 0, map[string]bool{}, sha256.New()
		err := New(m, Options{MaxUnpacked: 8 << 20}).SearchSum(ctx, "f", bytes.NewReader(b), int64(len(b)), func(f Finding) {
			n++
			all[f.Secret] = true
			if f.Offset < 0 || f.Secret == "" == (f.Unsearched == "") || strings.ContainsAny(f.String(), "\n\x1b") {
				t.Errorf("%+v", f)
			}
		}, sum)
		if err != nil {
			t.Fatal(err)
		}
		summed(t, b, sum, n > maxFindings)
		if bytes.Contains(b, []byte(canary)) && !all["CANARY"] || n > 2*maxFindings {
			t.Errorf("%d findings: %v", n, all)
		}
	})
}

// What is in any nesting of archives is found, and where.
func FuzzNesting(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed)
	}
	m := matcher(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		before := r.IntN(3000)
		content := letters[:before] + " " + canary + letters[r.IntN(1000):][:r.IntN(5000)]
		var names []string
		last := ""
		var made []string
		for range 1 + r.IntN(6) {
			filler := file{"filler", letters[:r.IntN(2000)]}
			if r.IntN(20) == 0 {
				filler.text = noise[:r.IntN(len(noise))]
			}
			name := fmt.Sprintf("m%d", len(made))
			files := []file{{name, content}}
			for range r.IntN(3) {
				i := r.IntN(len(files) + 1)
				files = append(files[:i], append([]file{filler}, files[i:]...)...)
			}
			kind := []string{"gzip", "tar", "zip", "stored", "zstd", "xz"}[r.IntN(6)]
			switch {
			case kind == "gzip" && last != kind:
				content = gz(content)
			case kind == "zstd":
				content = zstdOf(content)
			case kind == "xz":
				content = xzOf(content)
			case kind == "tar":
				content, names = tarOf(files...), append([]string{name}, names...)
			case kind == "stored":
				content, names = zip0Of(files...), append([]string{name}, names...)
			default:
				content, names = zipOf(files...), append([]string{name}, names...)
			}
			last = kind
			made = append(made, kind)
		}
		found := false
		err := New(m, Options{}).Search(context.Background(), "f", strings.NewReader(content), int64(len(content)), func(f Finding) {
			if f.Unsearched != "" {
				t.Error(f)
			}
			found = found || f.Offset == int64(before)+1 && (reflect.DeepEqual(f.Members, names) || len(f.Members)+len(names) == 0)
		})
		if err != nil || !found {
			t.Errorf("%v, not found in %v of %v", err, names, made)
		}
	})
}
