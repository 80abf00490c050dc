package main

import (
	"fmt"
	"os"
)

func main() {
	if text := os.Getenv(workerVariable); text != "" {
		if err := runWorker(text); err != nil {
			fmt.Fprintln(os.Stderr, "soak worker:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(command(os.Args[1:]))
}
