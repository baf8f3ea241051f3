package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oldWord is a word that docs/glossary.md gives up, and where it applies.
type oldWord struct {
	word      string
	instead   string
	folder    string // the first element of a path
	filesOnly bool   // only names of files
}

// oldWords reads the glossary's table of words that we gave up.
func oldWords(t *testing.T) []oldWord {
	t.Helper()
	text, err := os.ReadFile("../docs/glossary.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n| do not write |")
	require.True(t, found)
	var words []oldWord
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || strings.HasPrefix(line, " write") {
			continue
		}
		for _, word := range strings.Split(strings.TrimPrefix(cells[0], "| "), ", ") {
			for _, folder := range strings.Split(cells[2], ", ") {
				if strings.HasSuffix(folder, " later") {
					continue
				}
				folder, filesOnly := strings.CutSuffix(folder, " files")
				words = append(words, oldWord{word, cells[1], folder, filesOnly})
			}
		}
	}
	require.Greater(t, len(words), 30)
	return words
}

// declared calls found for each type, function, method, field and package variable that a file declares.
func declared(file *ast.File, found func(name *ast.Ident)) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			found(d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						found(name)
					}
				case *ast.TypeSpec:
					found(spec.Name)
					structure, ok := spec.Type.(*ast.StructType)
					if !ok {
						continue
					}
					for _, field := range structure.Fields.List {
						for _, name := range field.Names {
							found(name)
						}
					}
				}
			}
		}
	}
}

// No declared identifier, and no name of a file, is a word that the glossary gives up.
func TestGlossary(t *testing.T) {
	identifiers, files := map[string]string{}, map[string]string{} // by folder/word
	for _, w := range oldWords(t) {
		files[w.folder+"/"+w.word] = w.instead
		if !w.filesOnly {
			identifiers[w.folder+"/"+w.word] = w.instead
		}
	}
	platform := regexp.MustCompile(`(_linux|_darwin|_other)?(_test)?\.go$`)
	checked := 0
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		checked++
		path = strings.TrimPrefix(path, "../")
		folder, _, _ := strings.Cut(path, "/")
		base := platform.ReplaceAllString(filepath.Base(path), "")
		if instead, old := files[folder+"/"+base]; old {
			assert.Fail(t, "a file has a word's old name", "%s: write %s", path, instead)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join("..", path), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		declared(file, func(name *ast.Ident) {
			if instead, old := identifiers[folder+"/"+name.Name]; old {
				assert.Fail(t, "a word's old name", "%s: %s: write %s", set.Position(name.Pos()), name.Name, instead)
			}
		})
		return nil
	}))
	assert.Greater(t, checked, 300)
}

// The comment of a function or a type begins with its name, or with a sentence that names something else in capitals. One that
// begins with another identifier has outlived a renaming. A comment, of a test too, reports whether and does not tell.
func TestCommentsBeginWithTheName(t *testing.T) {
	checked := 0
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		for _, group := range file.Comments {
			assert.NotContains(t, group.Text(), "tells whether", "%s: write \"reports whether\", as the standard library does",
				set.Position(group.Pos()))
		}
		check := func(name *ast.Ident, doc *ast.CommentGroup) {
			first, _, _ := strings.Cut(doc.Text(), " ")
			if first = strings.TrimRight(strings.TrimSpace(first), ".,:'s"); first == "" {
				return
			}
			checked++
			if name.IsExported() || !ast.IsExported(first) {
				assert.True(t, strings.HasPrefix(name.Name, first), "%s: the comment of %s begins with %q", set.Position(name.Pos()), name, first)
			}
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				check(d.Name, d.Doc)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok && spec.Doc != nil {
						check(spec.Name, spec.Doc)
					} else if ok && len(d.Specs) == 1 {
						check(spec.Name, d.Doc)
					}
				}
			}
		}
		return nil
	}))
	assert.Greater(t, checked, 1000)
}
