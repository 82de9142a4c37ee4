// hello is all there is in cleanroom/scratch.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("hello from an image without a shell", os.Args[1:])
}
