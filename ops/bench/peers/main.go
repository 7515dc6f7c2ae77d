// Go's net/http with the profiles in a map: main ADDRESS FILE. A line of FILE is an id, a tab and the JSON to answer.
package main

import (
	"bufio"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

const prefix = "/v1/profiles/"

func main() {
	file, err := os.Open(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	profiles := map[string][]byte{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		id, value, _ := strings.Cut(lines.Text(), "\t")
		profiles[id] = []byte(value)
	}
	http.HandleFunc(prefix, func(writer http.ResponseWriter, request *http.Request) {
		value, found := profiles[strings.TrimPrefix(request.URL.Path, prefix)]
		if !found {
			http.NotFound(writer, request)
			return
		}
		writer.Header().Set("Content-Type", "application/json")
		writer.Header().Set("Content-Length", strconv.Itoa(len(value)))
		writer.Write(value)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
