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

// docBlock is a fenced block of a document. Behind the language its fence says how it is checked:
//
//	go                   a whole program, which is compiled
//	go fragment          statements or declarations, which are parsed
//	LANGUAGE test=NAME   the named test runs it
//	LANGUAGE not-run: …  nothing runs it, for the reason given
//
// A block of the README's language sh is run by TestReadmeCommands. A block without a language shows something.
type docBlock struct {
	file     string // from the root of the repository
	heading  string
	language string
	check    string
	text     string
}

var (
	fence   = regexp.MustCompile("^```(\\w*) ?(.*)$")
	heading = regexp.MustCompile(`^#+ (.*)$`)
)

// documents are the Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "shmstore/FORMAT.md"}
	for _, root := range []string{"docs", "integration/examples"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", root), func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".md") {
				files = append(files, strings.TrimPrefix(path, "../"))
			}
			return err
		}))
	}
	return files
}

// docBlocks are the fenced blocks of a document.
func docBlocks(t *testing.T, file string) []docBlock {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", file))
	require.NoError(t, err)
	var found []docBlock
	var block *docBlock
	title := ""
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimRight(line, "\n")
		switch m := fence.FindStringSubmatch(trimmed); {
		case block != nil && trimmed == "```":
			found, block = append(found, *block), nil
		case block != nil:
			block.text += line
		case m != nil:
			block = &docBlock{file: file, heading: title, language: m[1], check: m[2]}
		default:
			if m := heading.FindStringSubmatch(trimmed); m != nil {
				title = m[1]
			}
		}
	}
	require.Nil(t, block, "%s: a block is not closed", file)
	return found
}

// testNames are the names of all tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				names[f.Name.Name] = true
			}
		}
		return nil
	}))
	return names
}

// Every block of every document is run, compiled, parsed, or says why not.
func TestDocsBlocks(t *testing.T) {
	tests := testNames(t)
	for _, file := range documents(t) {
		for _, b := range docBlocks(t, file) {
			where := b.file + ", " + b.heading
			name, isTest := strings.CutPrefix(b.check, "test=")
			reason, notRun := strings.CutPrefix(b.check, "not-run: ")
			switch {
			case isTest:
				assert.True(t, tests[name], "%s: there is no test %s", where, name)
			case notRun:
				assert.NotEmpty(t, reason, where)
				t.Logf("not run: %s (%s): %s", where, b.language, reason)
			case b.language == "":
			case b.language == "go" && b.check == "":
				assert.Contains(t, b.text, "package main", "%s: no program; a part of one is fenced as go fragment", where)
				if !testing.Short() {
					assertCompiles(t, where, b.text)
				}
			case b.language == "go" && b.check == "fragment":
				assertParses(t, where, b.text)
			case b.language == "sh" && b.file == "README.md" && b.check == "":
			default:
				assert.Fail(t, "nothing checks this block", "%s: %s %s", where, b.language, b.check)
			}
		}
	}
}

func assertCompiles(t *testing.T, where, program string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o644))
	assert.NoError(t, build(filepath.Join(dir, "program"), source), where)
}

func assertParses(t *testing.T, where, text string) {
	t.Helper()
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+text, 0); err == nil {
		return
	}
	_, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+text+"\n}", 0)
	assert.NoError(t, err, where)
}

// Every test that a document names exists.
func TestDocsNameTests(t *testing.T) {
	tests := testNames(t)
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join("..", file))
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1) {
			assert.True(t, tests[name] || name == "TestName", "%s: there is no test %s", file, name)
		}
	}
}

// anchors are the targets of links into a document, as GitHub makes them of headings.
func anchors(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	found := map[string]bool{}
	inBlock := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
		}
		if m := heading.FindStringSubmatch(line); m != nil && !inBlock {
			name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			found[strings.ReplaceAll(name, " ", "-")] = true
		}
	}
	return found
}

// Every link inside the repository leads somewhere.
func TestDocsLinks(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, file := range documents(t) {
		path := filepath.Join("..", file)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range links.FindAllStringSubmatch(string(text), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); !assert.NoError(t, err, "%s: %s", file, m[1]) || anchor == "" {
				continue
			}
			assert.True(t, anchors(t, to)[anchor], "%s: no heading for %s", file, m[1])
		}
	}
}

// Every constructor and entry point of the public packages has an example.
func TestEntryPointsHaveExamples(t *testing.T) {
	entry := regexp.MustCompile(`^(New|Open|Run|Embed|Export|From|Wrap|Handler|Gatherer|Must|Detach|IsWorker|Default)`)
	for _, dir := range []string{"shmstore", "shmstore/foreign/python", "shmstore/foreign/ruby", "shmstore/foreign/rubymmap", "aggregate",
		"worker", "worker/httpmetrics", "master"} {
		exported, examples := map[string]bool{}, map[string]bool{}
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		require.NoError(t, err)
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Recv != nil {
					continue
				}
				name, isExample := strings.CutPrefix(f.Name.Name, "Example")
				switch {
				case isExample:
					examples[strings.SplitN(name, "_", 2)[0]] = true
				case !strings.HasSuffix(path, "_test.go") && f.Name.IsExported() && entry.MatchString(f.Name.Name):
					exported[f.Name.Name] = true
				}
			}
		}
		require.NotEmpty(t, exported, dir)
		for name := range exported {
			assert.True(t, examples[name], "%s.%s has no example", dir, name)
		}
	}
}
