"""What the commands say of themselves at length."""

from versatile_influence.core.sizes import FALSE_DISCOVERIES, SUSPICIOUS

EPILOG = """\
`vif help COMMAND` tells of one. Any input file may be -, the standard input, or a pipe, such as <(zcat FILE).

exit status: 0 done; 1 the data or files cannot be used; 2 the words of the call are wrong, whatever the files hold;
130 interrupted; 141 nobody reads what is printed.
"""
COX = """\
example:
  vif cox patients.csv --duration-col months --event-col died --id-col patient --strata site --out scores.csv
  vif cox patients.csv --formula "Surv(months, status == 2) ~ age + C(stage) + strata(site)" --na drop \\
                       --flip age --report report.html

A change is what leaving the patient out and fitting again would do: the coefficient (log hazard ratio) without the
patient, minus the coefficient with everybody.
"""
RANK = f"""\
Learn a linear ranking from TRAIN, and say how the mean loss of the test queries would change without each
document, item or query of TRAIN. Negative: the ranking would be better without it.

  vif rank train.svm --test test.svm                      rows with qid (LETOR), or with train.svm.query (LightGBM) or
                                                          .group (XGBoost) beside: documents, or --objects queries
  vif rank bm25.run,dense.run --qrels train.qrels \\
           --test bm25.test.run,dense.test.run --test-qrels test.qrels
                                                          TREC runs, a feature each: documents or queries
  vif rank train.arff --test test.arff --labels 983       multi-label rows are queries that rank their labels, the
                                                          items: items, or --objects queries

--loss listmle ranks documents of one relevance in the order of the file; lambda (NDCG-Loss2++, ranks held as fitted)
and approx-ndcg, with gains 2^relevance - 1, do not.

Without an item, its own place in the test lists goes too, whatever was learned; that direct part is shown apart, and
the order is by what goes through the parameters.

Where lines of an svmlight file end in `# docid = d7 annotator = ann`, --objects annotator removes all that each
annotator graded, and any other such word does likewise.

One is marked suspicious where it is more than {SUSPICIOUS:g} robust standard deviations (1.4826 times the median
absolute deviation) below the median, and so far that for every ten there is at most {10 * FALSE_DISCOVERIES:g} as far
above it, the share that is expected to be there by chance: a place to look, and no verdict. Where one query in ten was
tampered with, none was marked; the length of a list and its training loss told more (experiments/spam.py). Duplicates,
and test queries that leaked into TRAIN, are found by looking for the nearest rows, not by influence: of as many as were
planted 83 to 87 % against 19 to 20 % (experiments/leaks.py)."""


RECOMMEND = """\
Learn factors of users and items from a table of interactions, and say how far an item stands above the end of a user's
list, and how that would change without each interaction and each user: who and what made this user see this item.

  vif recommend interactions.csv --user ann                    what brought the first item of ann's list there
  vif recommend ratings.csv --rating-col stars --user ann --item "Alien" --objects items users

Of an item on the list the lead is over the first item below it, and where it falls below 0 the item leaves the list; of
another it is over the list's last. Training starts at random factors (--seed): another start may end in another model.
"""
