package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkedBlock returns the block of a document in that language which names the test that calls it.
func checkedBlock(t *testing.T, file, language string) string {
	t.Helper()
	for _, b := range docBlocks(t, file) {
		if b.language == language && b.check == "test="+t.Name() {
			return b.text
		}
	}
	require.FailNow(t, "there is no such block", "%s: %s test=%s", file, language, t.Name())
	return ""
}

// recipe returns the block of docs/recipes.md that names the test that calls it.
func recipe(t *testing.T, language string) string {
	t.Helper()
	return checkedBlock(t, "docs/recipes.md", language)
}

// startRecipe builds a recipe's Go program and starts it in dir; only addresses and the store are others.
func startRecipe(t *testing.T, dir string) *server {
	t.Helper()
	s := newServer(t)
	program := recipe(t, "go")
	for _, port := range []string{"8080", "8443"} {
		listen := `Listen: []string{"127.0.0.1:` + port + `"}`
		program = strings.Replace(program, listen, `Workers: 2, Listen: []string{"`+s.app+`"}, MetricsListen: "`+
			strings.TrimPrefix(s.base, "http://")+`", Store: "`+s.store+`"`, 1)
	}
	require.Contains(t, program, s.app)
	built := t.TempDir()
	source, binary := filepath.Join(built, "main.go"), filepath.Join(built, "server")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o644))
	require.NoError(t, build(binary, source))
	cmd := exec.Command(binary)
	cmd.Dir = dir
	s.process = launch(t, cmd)
	s.waitReady()
	return s
}

// startRecipeCommand starts a recipe's command line in dir; only addresses and the store are others, and what replace
// has pairs of.
func startRecipeCommand(t *testing.T, dir string, replace ...string) *server {
	t.Helper()
	return startCommandLine(t, recipe(t, "sh"), dir, replace...)
}

// startCommandLine starts a command line of a document, likewise.
func startCommandLine(t *testing.T, line, dir string, replace ...string) *server {
	t.Helper()
	s := newServer(t)
	line, isOurs := strings.CutPrefix(strings.TrimSpace(line), "onescrape ")
	require.True(t, isOurs, line)
	require.NotContains(t, line, "\n")
	replace = append([]string{"127.0.0.1:8000", s.app}, replace...)
	verb, rest, _ := strings.Cut(strings.NewReplacer(replace...).Replace(line), " ")
	flags := " --web.listen-address " + strings.TrimPrefix(s.base, "http://")
	if verb != "serve" {
		flags += " --store.path " + s.store
	}
	cmd := exec.Command("sh", "-c", "exec "+onescrape+" "+verb+flags+" "+rest)
	cmd.Dir = dir
	s.process = launch(t, cmd)
	s.waitReady()
	return s
}

// write puts a file into a directory.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// assertReloads has the workers of a recipe answer, replaces them, and has the new ones answer.
func (s *server) assertReloads(want string) {
	s.t.Helper()
	before := s.workers()
	for range 2 {
		code, body, err := get("http://" + s.app + "/")
		require.NoError(s.t, err)
		assert.Equal(s.t, http.StatusOK, code)
		assert.Contains(s.t, string(body), want)
		if result := command(s.t, "reload", "--store.path", s.store); !assert.Equal(s.t, 0, result.status, result.stderr) {
			return
		}
	}
	for _, pid := range s.workers() {
		assert.NotContains(s.t, before, pid)
	}
}

func TestRecipeClientGolang(t *testing.T) {
	long(t)
	s := startRecipe(t, t.TempDir())
	for range 10 {
		resp, err := http.Post("http://"+s.app+"/order", "text/plain", nil)
		require.NoError(t, err)
		resp.Body.Close()
	}
	// Both ports show the whole server.
	eventually(t, "the exported metric", func() bool { return mustScrape(t, s.metrics).sum("orders_total") == 10 })
	for _, url := range []string{s.metrics, "http://" + s.app + "/metrics"} {
		assert.Equal(t, 10.0, mustScrape(t, url).sum("app_requests_total", "code", "200", "method", "post"))
		assert.Equal(t, 10.0, mustScrape(t, url).sum("orders_total"))
	}
}

// certificate writes cert.pem and key.pem for 127.0.0.1 and returns the serial number.
func certificate(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// serialOf returns the serial number of the certificate that a server shows.
func serialOf(t *testing.T, addr string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestRecipeTLS(t *testing.T) {
	long(t)
	dir := t.TempDir()
	certificate(t, dir, 1)
	s := startRecipe(t, dir)
	assert.EqualValues(t, 1, serialOf(t, s.app))
	certificate(t, dir, 2)
	result := command(t, "reload", "--store.path", s.store)
	require.Equal(t, 0, result.status, result.stderr)
	for range 8 {
		assert.EqualValues(t, 2, serialOf(t, s.app))
	}
}

func TestRecipeConfiguration(t *testing.T) {
	long(t)
	dir := t.TempDir()
	write(t, dir, "config.json", `{"Greeting": "good morning"}`)
	s := startRecipe(t, dir)
	answer := func() string {
		_, body, err := get("http://" + s.app + "/")
		require.NoError(t, err)
		return string(body)
	}
	assert.Equal(t, "good morning", answer())
	write(t, dir, "config.json", `{"Greeting": "good evening"}`)
	require.Equal(t, 0, command(t, "reload", "--store.path", s.store).status)
	assert.Equal(t, "good evening", answer())
	write(t, dir, "config.json", `{"Greeting":`)
	assert.Equal(t, 1, command(t, "reload", "--store.path", s.store).status)
	assert.Equal(t, "good evening", answer())
}

func TestRecipeLogs(t *testing.T) {
	long(t)
	s := startRecipe(t, t.TempDir())
	eventually(t, "lines of both workers", func() bool {
		code, _, err := get("http://" + s.app + "/hello")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
		log := s.stderr.String()
		return strings.Contains(log, "msg=request worker=0 pid=") && strings.Contains(log, "msg=request worker=1 pid=")
	})
}

func TestRecipeEmbed(t *testing.T) {
	long(t)
	s := newServer(t)
	program := strings.NewReplacer("127.0.0.1:8080", s.app, "127.0.0.1:9464", strings.TrimPrefix(s.base, "http://")).
		Replace(recipe(t, "go"))
	dir := t.TempDir()
	write(t, dir, "main.go", program)
	binary := filepath.Join(dir, "server")
	require.NoError(t, build(binary, filepath.Join(dir, "main.go")))
	s.process = launch(t, exec.Command(binary), "ONESCRAPE_DIR="+s.store)
	eventually(t, "a worker that answers", func() bool { _, _, err := get("http://" + s.app + "/"); return err == nil })
	eventually(t, "the metrics port", func() bool { _, _, err := get(s.metrics); return err == nil })
	for range 19 {
		_, _, err := get("http://" + s.app + "/")
		require.NoError(t, err)
	}
	assert.Equal(t, 20.0, mustScrape(t, s.metrics).sum("answers_total"))
}

func TestRecipeNode(t *testing.T) {
	long(t)
	peer(t, "node", "nodejs")
	dir := t.TempDir()
	write(t, dir, "server.js", recipe(t, "js"))
	startRecipeCommand(t, dir).assertReloads("hello from node")
}

const helloPython = `
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from python\n"]
application = app
`

func TestRecipeGunicorn(t *testing.T) {
	long(t)
	peer(t, "gunicorn", "gunicorn")
	dir := t.TempDir()
	write(t, dir, "app.py", helloPython)
	startRecipeCommand(t, dir).assertReloads("hello from python")
}

func TestRecipeUWSGI(t *testing.T) {
	long(t)
	peer(t, "uwsgi", "uwsgi uwsgi-plugin-python3")
	dir := t.TempDir()
	write(t, dir, "app.py", helloPython)
	startRecipeCommand(t, dir, "uwsgi --http", "uwsgi --plugin python3 --http", "app:app", "app:app").
		assertReloads("hello from python")
}

func TestRecipePuma(t *testing.T) {
	long(t)
	peer(t, "puma", "puma")
	dir := t.TempDir()
	write(t, dir, "config.ru", `run ->(env) { [200, {"content-type" => "text/plain"}, ["hello from ruby\n"]] }`)
	startRecipeCommand(t, dir).assertReloads("hello from ruby")
}

func TestRecipeNginx(t *testing.T) {
	nginx := peer(t, "nginx", "nginx-light")
	dir := t.TempDir()
	socket, front := filepath.Join(dir, "app.sock"), freeAddress(t)
	s := startRecipeCommand(t, dir, "/run/app/app.sock", socket)
	block := strings.NewReplacer("/run/app/app.sock", socket, "127.0.0.1:8080", front).Replace(recipe(t, "nginx"))
	write(t, dir, "nginx.conf", "daemon off;\npid "+dir+"/nginx.pid;\nerror_log stderr;\nworker_processes 1;\n"+
		"events {}\nhttp {\naccess_log off;\nclient_body_temp_path "+dir+"/b;\nproxy_temp_path "+dir+"/p;\n"+
		"fastcgi_temp_path "+dir+"/f;\nuwsgi_temp_path "+dir+"/u;\nscgi_temp_path "+dir+"/s;\n"+block+"}\nuser root;\n")
	launch(t, exec.Command(nginx, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")))
	client := &http.Client{Timeout: deadline}
	ask := func() (int, error) {
		resp, err := client.Get("http://" + front + "/")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, nil
	}
	eventually(t, "nginx", func() bool { code, err := ask(); return err == nil && code == http.StatusOK })
	reloaded := make(chan result, 1)
	go func() {
		out, err := exec.Command(onescrape, "reload", "--store.path", s.store).CombinedOutput()
		status := 0
		if err != nil {
			status = 1
		}
		reloaded <- result{status: status, stderr: string(out)}
	}()
	for {
		code, err := ask()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
		select {
		case result := <-reloaded:
			assert.Equal(t, 0, result.status, result.stderr)
			return
		default:
		}
	}
}
