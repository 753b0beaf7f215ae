# In: scores, prompts, training summaries. Out: tables/<table>.csv, .md, .tex and report/<table>.html.
# A table is a file of scripts/vlg/analysis/tables/; its NEEDS are its inputs.


include: "functions/tables.smk"


rule tables:
    """Every table, with its page; no model is loaded."""
    input:
        [
            report(
                LAYOUT.page(table),
                caption=caption("tables", table),
                category="Tables",
                labels={"table": in_words(table)},
            )
            for table in TABLES
        ],
        [
            report(
                LAYOUT.table(table, form),
                caption=caption("tables", table),
                category="Tables to paste",
                labels={"table": in_words(table), "format": title},
            )
            for table in TABLES
            for form, title in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
        ],


rule table:
    """Make one table from cached scores, and a page to sort, search and copy it."""
    input:
        prompts=table_input("prompts"),
        scores=table_input("scores"),
        hard=table_input("hard"),
        training=table_input("training"),
        judges=table_input("judges"),
        diversity=table_input("diversity"),
        models=table_input("models"),
        ratings=table_input("ratings"),
        pictures=table_input("pictures"),
        templates=page_parts,
    output:
        [LAYOUT.table("{table}", form) for form in ("csv", "md", "tex")],
        rest(
            LAYOUT.log("table", "{table}"),
            *(LAYOUT.table("{table}", form) for form in ("csv", "md", "tex")),
            LAYOUT.page("{table}"),
        ),
        page=LAYOUT.page("{table}"),
    log:
        LAYOUT.log("table", "{table}"),
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("table")
    resources:
        **needs("table"),
    params:
        settings=table_settings,
        code=lambda wildcards: code("table", (plugins.TABLES, wildcards.table)),
        options=table_options,
        root=lambda wildcards: here(OUT),
        out=subpath(output[0], parent=True),
    shell:
        python("table") + " {wildcards.table} --settings {params.settings:q}"
        " --prompts {input.prompts:q} --scores {input.scores:q} {params.options:q}"
        " --root {params.root:q} --out {params.out:q} --page {output.page:q} --log {log:q}"
