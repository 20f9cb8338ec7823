.PHONY: demo test check fix docs

demo:  ## ground a photo with the shipped model and write found.png
	glip ground docs/photos/coffee.jpg "a cup of coffee" --threshold 0.705 --output found.png

test:  ## the tests that a change needs
	pytest -m "not slow and not gpu"

check:  ## everything that CI checks; writes nothing into the tree
	ruff format --check .
	ruff check .
	codespell .
	mypy
	lint-imports
	pytest -m "not slow and not gpu"
	mkdocs build --strict --quiet --site-dir $${TMPDIR:-/tmp}/glip-site

fix:  ## format, and fix what can be fixed by itself
	ruff check --fix .
	ruff format .

docs:  ## read the pages at http://127.0.0.1:8000
	mkdocs serve
