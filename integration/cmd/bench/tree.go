package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// makeTree writes files of text, as many in each run and the same ones, to be
// cloned. It returns their size.
func makeTree(dir string, files int) (size int, err error) {
	words := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		folder := filepath.Join(dir, fmt.Sprintf("%02d", i/50))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return 0, err
		}
		var text bytes.Buffer
		for text.Len() < 10_000 {
			fmt.Fprintf(&text, "%x %x\n", words.Uint64(), words.Uint32())
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%03d.txt", i)), text.Bytes(), 0o644); err != nil {
			return 0, err
		}
		size += text.Len()
	}
	return size, nil
}
