"""Second of three scripts: have the graph that `ann_compile.py` left computed, and watch it."""

import ravop as R

R.initialize()
R.execute()
R.track_progress()
print("training_loss_epoch_1_batch_1:", R.fetch_persisting_op(op_name="training_loss_epoch_1_batch_1"))
