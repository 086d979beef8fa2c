package image

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestTheSameProgramMakesTheSameImage(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "program")
	write := func(text, name string) []byte {
		if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, "image.tar")
		if err := Write(path, name, program); err != nil {
			t.Fatal(err)
		}
		archive, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return archive
	}
	first := write("one", "example/one:1")
	if !bytes.Equal(first, write("one", "example/one:1")) {
		t.Error("two archives of one program differ")
	}
	if bytes.Equal(first, write("two", "example/one:1")) || bytes.Equal(first, write("one", "example/two:1")) {
		t.Error("another program or another name makes the same archive")
	}
	if !bytes.Contains(first, []byte(`"RepoTags":["example/one:1"]`)) || !bytes.Contains(first, []byte(`"Entrypoint":["/program"]`)) {
		t.Error("the archive does not say its name or what it starts")
	}
}
