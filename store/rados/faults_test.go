//go:build rados

package rados

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestFaultPoints: the list names what there is.
func TestFaultPoints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.(?:Fault|at)\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			used[string(m[1])] = true
		}
	}
	for _, point := range FaultPoints() {
		if !used[point] {
			t.Errorf("there is no point %s", point)
		}
		delete(used, point)
	}
	if len(used) > 0 {
		t.Errorf("not in the list: %v", used)
	}
}
